"""The command `speech-emotion`: the highest room of the house, which no other imports."""
