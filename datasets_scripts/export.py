"""Export a corpus, with its folds as configurations, for plain `datasets.load_dataset`.

python -m datasets_scripts.export --corpus emodb --data_dir recordings --output_dir exported
"""

import argparse
from collections.abc import Sequence

from . import CORPORA, PROTOCOLS, export_parquet, load_corpus
from .hub import check_name, check_token, claim_repository, push_folder

__all__ = ["export_parquet", "main"]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", required=True, choices=list(CORPORA))
    parser.add_argument("--config", default="six_emotions", choices=["six_emotions", "all"])
    parser.add_argument("--data_dir", help="folder of the recordings; downloaded when not given")
    parser.add_argument("--output_dir", required=True, help="a new or empty folder")
    parser.add_argument(
        "--protocols", nargs="+", default=["speaker_independent", "paper"], choices=PROTOCOLS
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random protocols")
    parser.add_argument("--push_to_hub", metavar="REPO_ID", help="upload the folder as a dataset")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Load, export and, when asked, upload."""
    args = parse_args(argv)
    if args.push_to_hub:
        # Better refused now than when everything has been prepared.
        check_name(args.push_to_hub, "push_to_hub")
        check_token("push_to_hub")
        claim_repository(args.push_to_hub, "dataset")
    dataset = load_corpus(args.corpus, args.config, args.data_dir)
    folder = export_parquet(dataset, args.output_dir, args.protocols, args.seed)
    print(f"Wrote {len(dataset)} recordings to {folder}")
    if args.push_to_hub:
        print(f"Pushed them: {push_folder(folder, args.push_to_hub, 'dataset')}")


if __name__ == "__main__":
    main()
