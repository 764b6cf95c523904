# A text is spoken, and the picture says it; needs the program espeak-ng: output/speech.mp4
mkdir -p output
infinitetalk generate --output output/speech.mp4 "$@" \
  --image src/infinitetalk/assets/demo/portrait_2.png \
  --text "Good morning. Nobody has ever recorded this." --voice espeak:en-gb
