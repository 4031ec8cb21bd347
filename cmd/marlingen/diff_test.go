package main

import "testing"

func TestDiffStatus(t *testing.T) {
	const here = "../../generated/manifest.json"
	command(t, 0, "diff", here, "../..")
	command(t, 2, "diff", here, "diff.go")
	command(t, 2, "diff", "no", here)
}
