package page

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// alike returns what runs have in common that measure the same: everything but
// the time, the software, and where results go.
func (r *Run) alike() string {
	d := r.doc
	words := []string{d.Benchmark, string(d.Level), d.Device.Kind, d.Device.Name, d.Machine.Processor, d.Machine.OS, d.Machine.Arch}
	return strings.Join(append(words, measuring(d.Args)...), "\n")
}

// outputs are the flags of bench that say where results go, with whether a value
// follows them.
var outputs = map[string]bool{"--result": true, "--history": true, "--markdown": true, "--plot": true, "--json": false, "--gobench": false}

// measuring returns the arguments that have to do with what is measured.
func measuring(args []string) (words []string) {
	for i := 0; i < len(args); i++ {
		name, _, joined := strings.Cut(args[i], "=")
		value, output := outputs[name]
		switch {
		case !output:
			words = append(words, args[i])
		case value && !joined:
			i++
		}
	}
	return words
}

// latest returns, of runs that measure the same, the last that is not stale, or
// the last; and the pairs of the last two.
func latest(runs []*Run) (current []*Run, pairs [][2]*Run) {
	var order []string
	groups := map[string][]*Run{}
	for _, r := range runs {
		key := r.alike()
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], r)
	}
	for _, key := range order {
		group := groups[key]
		at := len(group) - 1
		for i, r := range group {
			if !r.Stale {
				at = i
			}
		}
		current = append(current, group[at])
		if n := len(group); n > 1 {
			pairs = append(pairs, [2]*Run{group[n-2], group[n-1]})
		}
	}
	slices.SortStableFunc(current, func(a, b *Run) int {
		return cmp.Or(cmp.Compare(a.doc.Benchmark, b.doc.Benchmark), a.doc.Time.Compare(b.doc.Time))
	})
	return current, pairs
}

// find returns the only run whose id begins with the given text.
func find(runs []*Run, id string) (*Run, error) {
	var found []*Run
	for _, r := range runs {
		if id != "" && strings.HasPrefix(r.doc.ID, id) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return nil, fmt.Errorf("no run that can be quoted has an id beginning with %q", id)
	case 1:
		return found[0], nil
	}
	return nil, fmt.Errorf("several runs have ids beginning with %q", id)
}
