# A job file of the reference implementation, as it is: output/input_json.mp4
mkdir -p output
infinitetalk generate --output output/input_json.mp4 "$@" --input-json examples/two_people.json
