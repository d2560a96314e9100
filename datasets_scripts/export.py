"""Export a corpus, with its folds as configurations, for plain `datasets.load_dataset`.

python -m datasets_scripts.export --corpus emodb --data_dir recordings --output_dir exported
"""

import argparse
from collections.abc import Sequence

from huggingface_hub import HfApi

from . import CORPORA, PROTOCOLS, export_parquet, load_corpus

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
    dataset = load_corpus(args.corpus, args.config, args.data_dir)
    folder = export_parquet(dataset, args.output_dir, args.protocols, args.seed)
    print(f"Wrote {len(dataset)} recordings to {folder}")
    if args.push_to_hub:
        api = HfApi()
        api.create_repo(args.push_to_hub, repo_type="dataset", exist_ok=True)
        api.upload_folder(repo_id=args.push_to_hub, repo_type="dataset", folder_path=folder)


if __name__ == "__main__":
    main()
