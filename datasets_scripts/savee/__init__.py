"""Surrey Audio-Visual Expressed Emotion."""
