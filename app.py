"""The page in the browser, here or as a Space of the Hub.

python app.py                    # serve it on this machine
python app.py --export folder    # write the folder of a Space, with weights, code and card

The environment variables SPEECH_EMOTION_CLASSIFIER and SPEECH_EMOTION_ENHANCER name other models
than those in the box: folders or Hub ids.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from space.actions import Models
from space.export import export_space
from space.layout import build_page, launch_page


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the page until it is interrupted, or write the folder of a Space."""
    summary, _, details = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "python app.py",
        description=summary,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--export", type=Path, metavar="FOLDER", help="write a Space, do not serve")
    parser.add_argument("--port", type=int, help="the first that is free from 7860 when not given")
    options = parser.parse_args(arguments)
    models = Models.of_environment()
    if options.export is None:
        launch_page(build_page(models), server_port=options.port)
        return
    try:
        print(f"Space: {export_space(options.export, models)}")
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
