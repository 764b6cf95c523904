# A video for each line of batch.csv, after a look at what they will cost: output/first.mp4, output/second.mp4
mkdir -p output
infinitetalk batch examples/batch.csv --output-folder output --results output/batch.csv --dry-run "$@"
infinitetalk batch examples/batch.csv --output-folder output --results output/batch.csv "$@"
