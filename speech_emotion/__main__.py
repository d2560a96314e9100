"""`python -m speech_emotion`, the same as the command `speech-emotion`."""

from .main import app

if __name__ == "__main__":
    app(prog_name="speech-emotion")
