#!/bin/bash
# Counts once a second up to the number in INPUT_DIR/sleep_count.
# Exit codes: 0 done; 2 the input is not what it must be.
set -eu
input=$1
output=$2

echo "The input holds:"
ls -lA -- "$input"

count=
if [ -r "$input/sleep_count" ]; then
    # Editors add newlines, on Windows carriage returns and a mark at the beginning too.
    count=$(head -c 100 -- "$input/sleep_count" | tr -d '\0 \t\r\n\357\273\277')
fi
if ! [[ $count =~ ^[0-9]{1,5}$ ]] || ((10#$count > 86400)); then
    echo "The file sleep_count must hold a whole number of seconds from 0 to 86400, such as 8." >&2
    printf 'It holds: %q\n' "$count" >&2
    exit 2
fi
count=$((10#$count))

for ((second = 1; second <= count; second++)); do
    sleep 1
    echo "$second"
    echo "::progress $((second * 100 / count)) second $second of $count"
done

{
    echo "Counted to $count."
    echo "The input held:"
    ls -A -- "$input"
} > "$output/output.txt"
echo "Done: the result is in output.txt."
