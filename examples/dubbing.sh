# A video says something else: image.sh's gets another voice, and keeps its own size: output/dubbing.mp4
infinitetalk generate --output output/dubbing.mp4 "$@" \
  --video output/image.mp4 \
  --audio src/infinitetalk/assets/demo/voice_2.flac \
  --output-size source --source-end ping-pong
