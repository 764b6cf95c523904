# A portrait and a voice become a talking video: output/image.mp4
mkdir -p output
infinitetalk generate --output output/image.mp4 "$@" \
  --image src/infinitetalk/assets/demo/portrait_1.png \
  --audio src/infinitetalk/assets/demo/voice_1.flac
