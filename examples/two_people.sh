# Two people in one picture, found by their faces, speak one after the other: output/two_people.mp4
mkdir -p output
infinitetalk generate --output output/two_people.mp4 "$@" \
  --image src/infinitetalk/assets/demo/pair.png --voices sequence \
  --audio src/infinitetalk/assets/demo/voice_1.flac \
  --audio src/infinitetalk/assets/demo/voice_2.flac
