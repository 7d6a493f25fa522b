# Inputs as words of a command line: $specs, $show_specs and $options. They come from the environment and are never read as code.
specs=() show_specs=() options=()
while IFS= read -r line; do
  [[ $line ]] || continue
  specs+=("$line")
  show_specs+=(--spec "$line")
done <<< "${SPECS:-}"
while IFS= read -r line; do
  [[ $line ]] || continue
  options+=(--var "$line")
done <<< "${VARIABLES:-}"
[[ ! ${CONNECTIONS:-} ]] || options+=(--connections "$CONNECTIONS")

# The id in a plan's first line.
plan_id() {
  python3 -c 'import json, sys; print(json.loads(open(sys.argv[1], encoding="utf-8").readline())["id"])' "$1"
}
