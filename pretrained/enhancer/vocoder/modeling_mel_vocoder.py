"""What the index of this folder asks for, from this project; a push writes its code instead."""

from modeling import MelVocoder as MelVocoder
