#!/bin/sh
# Makes data/demo.wav, the bundled clip: synthetic speech, nobody's voice. Needs espeak-ng (made with 1.51).
# espeak-ng writes mono 16-bit WAV at 22,050 Hz. -s speed, -p pitch, -a amplitude, -v voice.
set -eu
cd "$(dirname "$0")"
mkdir -p data
espeak-ng -v en-us -s 165 -p 60 -a 120 -w data/demo.wav "Kids are talking by the door. Nobody heard."
