# What no plan may do here, whoever reviews it:
#   reconciler show plans/x.plan.jsonl --format json > plan.json && conftest test plan.json --policy specs/policy
# specs/plan-json.schema.json says what `input` holds.
package main

import rego.v1

kept := {"public.identities", "public.payments"}

most_deletes := 100

deny contains text if {
	some change in input.resource_changes
	"delete" in change.change.actions
	change.reconciler.target in kept
	text := concat(" ", [change.address, "goes, and rows of", change.reconciler.target, "are never deleted"])
}

deny contains text if {
	some change in input.resource_changes
	"created_at" in change.reconciler.changed
	text := concat(" ", [change.address, "changes created_at, which never changes"])
}

deny contains text if {
	some risk in input.reconciler.hazards
	risk.stops
	text := concat(" ", [risk.rule, risk.address, risk.text])
}

warn contains text if {
	count := object.get(input.reconciler.summary, "delete", 0)
	count > most_deletes
	text := concat(" ", [format_int(count, 10), "rows are deleted: look twice"])
}
