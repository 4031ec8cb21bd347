package tasks

// The texts of tasks. Each tree is a clone, since go build finds the commit of no
// other kind of worktree; what a task makes is beside the tree, which stays clean.
const (
	baselinePrompt = `
Make a tree of what there is, and build it:

  git clone --quiet . {{.Dir}}/tree
  (cd {{.Dir}}/tree && go build -buildvcs=true -o ../marlingen ./cmd/marlingen)

Change nothing in it. Then run, on a machine that does nothing else:

  {{.Dir}}/marlingen bench --device {{.Device}} --quick --tuples {{.Profile}} --result {{.Dir}}/result.json
`
	baselineVerify = `
marlingen verify-result {{.Dir}}/result.json --manifest {{.Dir}}/tree \
  --expect device.kind={{.Kind}} --expect counters.fallbacks=0 --expect 'cells>=1'
`

	candidatePrompt = `
Make a tree of its own for this candidate:

  git clone --quiet . {{.Dir}}/tree
  git -C {{.Dir}}/tree switch --create tune/{{.Name}}

In {{.Dir}}/tree/{{.Spec}}, write "{{.New}}" for "{{.Old}}", in every pass that has it. What follows from it
changes with it: threadgroup_bytes, a pitch, and what the body's template asserts. Change no other family and
no result. Then run, in the tree:

  go generate .
  go run ./cmd/marlingen prove --root . --family {{.Family}}

and commit.
`
	candidateVerify = `
set -e
git -C {{.Dir}}/tree diff --quiet HEAD
grep -qwF -- '{{.New}}' {{.Dir}}/tree/{{.Spec}}
cd {{.Dir}}/tree
go run ./cmd/marlingen regenerate --check
go run ./cmd/marlingen compile cuda --check
go run ./cmd/marlingen prove --root . --family {{.Family}}
`

	benchPrompt = `
On a machine that does nothing else, build the candidate and measure it between two measurements of the baseline:

  (cd {{.Dir}}/tree && go build -buildvcs=true -o ../marlingen ./cmd/marlingen)
  work/baseline/marlingen bench --device {{.Device}} --quick --tuples {{.Profile}} --batches {{.Batch}} --result {{.Dir}}/before.json
  {{.Dir}}/marlingen bench --device {{.Device}} --quick --tuples {{.Profile}} --batches {{.Batch}} --result {{.Dir}}/result.json
  work/baseline/marlingen bench --device {{.Device}} --quick --tuples {{.Profile}} --batches {{.Batch}} --result {{.Dir}}/after.json

Leave the results as they were written, also where the candidate is slower.
`
	benchVerify = `
set -e
marlingen verify-result {{.Dir}}/result.json --manifest {{.Dir}}/tree \
  --expect device.kind={{.Kind}} --expect counters.fallbacks=0 \
  --expect 'cells.*.labels.batch={{.Batch}}' --expect 'counters.launches.{{.Symbol}}>=1'
marlingen verify-result {{.Dir}}/before.json --manifest work/baseline/tree \
  --expect device.kind={{.Kind}} --expect 'cells.*.labels.batch={{.Batch}}'
marlingen verify-result {{.Dir}}/after.json --manifest work/baseline/tree \
  --expect device.kind={{.Kind}} --expect 'cells.*.labels.batch={{.Batch}}'
`

	collectPrompt = `
Compare each candidate's result.json with the baseline's before.json and after.json beside it. A candidate is
better only if its median is below both of theirs by more than the spreads of all three together. Say in
{{.Dir}}/decision.md, of each candidate by its name, whether it is, and by how much; and on which device.
`
	collectVerify = `
set -e
{{range .Candidates -}}
marlingen verify-result {{.Dir}}/result.json --manifest {{.Dir}}/tree --expect device.kind={{.Kind}}
grep -qwF -- '{{.Name}}' {{$.Dir}}/decision.md
{{end -}}
`
)
