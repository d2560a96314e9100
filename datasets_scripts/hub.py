"""Folders that are sent to the Hub as they are, with one clear error where that cannot be."""

from pathlib import Path

from huggingface_hub import HfApi, RepoCard, get_token
from huggingface_hub.errors import HFValidationError, HTTPError
from huggingface_hub.utils import validate_repo_id

EXPECTED_TOKEN = "expected one from `hf auth login` or in HF_TOKEN"


def check_name(name: str, setting: str) -> None:
    """Refuse a name that the Hub would not take; `setting` is what the caller calls it.

    Raises:
        ValueError: It is none of the form `user/name`.
    """
    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise ValueError(f"Bad {setting} '{name}', expected user/name: {error}") from error


def check_token(setting: str) -> None:
    """Refuse what would be sent to the Hub by nobody; `setting` is what asked for that.

    Raises:
        ValueError: Nobody is logged in.
    """
    if get_token() is None:
        raise ValueError(f"Got {setting} without a token, {EXPECTED_TOKEN}")


def claim_repository(
    name: str,
    repo_type: str = "model",
    private: bool | None = None,
    space_sdk: str | None = None,
) -> str:
    """Make a repository on the Hub where there is none yet; its full name.

    Args:
        name: As `user/name`.
        repo_type: `"model"`, `"dataset"` or `"space"`.
        private: Whether a new one is for its owner alone; what is usual for the owner if not given.
        space_sdk: What a new Space runs with, as `"gradio"`.

    Raises:
        OSError: The Hub cannot be reached or does not know the token, or the token may not write.
    """
    try:
        made = HfApi().create_repo(
            name, repo_type=repo_type, private=private, space_sdk=space_sdk, exist_ok=True
        )
    except (HTTPError, OSError) as error:
        raise OSError(_refusal(name, error)) from error
    return made.repo_id


def push_folder(
    folder: Path, name: str, repo_type: str = "model", private: bool | None = None
) -> str:
    """Send exactly this folder to a repository on the Hub; the address of the commit.

    Repeated after it broke off, it sends what had not arrived. Code that an earlier model had
    there goes: its name is another. Arguments and errors as of `claim_repository`.

    Raises:
        ValueError: A Space whose README.md does not say what it runs with.
    """
    sdk = _space_sdk(folder) if repo_type == "space" else None
    full_name = claim_repository(name, repo_type, private, sdk)
    try:
        commit = HfApi().upload_folder(
            repo_id=full_name,
            folder_path=folder,
            repo_type=repo_type,
            delete_patterns="*.py" if repo_type == "model" else None,
        )
    except (HTTPError, OSError, RuntimeError) as error:
        raise OSError(_refusal(full_name, error)) from error
    return str(commit)


def _space_sdk(folder: Path) -> str:
    card = folder / "README.md"
    sdk = RepoCard.load(card).data.get("sdk") if card.exists() else None
    if not isinstance(sdk, str):
        raise ValueError(f"Bad Space in '{folder}', expected a README.md that names its 'sdk'")
    return sdk


def _refusal(name: str, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401:
        return f"Cannot push to '{name}': the Hub does not know the token, {EXPECTED_TOKEN}"
    reason = " ".join(str(error).split())
    if status is None:
        return f"Cannot push to '{name}', expected a Hub that can be reached: {reason}"
    return f"Cannot push to '{name}', expected a repository that your token may write: {reason}"
