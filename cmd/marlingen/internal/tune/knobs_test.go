package tune

import (
	"maps"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/msl"
	"github.com/marlingen/marlingen/templates"
)

// The formulas of threadgroup memory are the templates', at the ends of the knobs
// and not only where the specs are: a candidate that the compiler refuses is refused
// for something else.
func TestFormulas(t *testing.T) {
	needClang(t)
	specs, profile := project(t, "decode")
	compiled := 0
	for file, family := range specs.Families {
		for _, p := range family.Passes {
			s := newSpace(p, func(string) bool { return true })
			require.NotEmpty(t, s.values, "%s has no knobs", file)
			end := slices.Max[[]int] // of gate_up; of down the others
			if p.Pass.V == runtime.Down {
				end = slices.Min[[]int]
			}
			ends := point{}
			for knob, values := range s.values {
				ends[knob] = end(values)
			}
			for _, knob := range slices.Sorted(maps.Keys(ends)) { // all but one: all are beyond a limit
				some := maps.Clone(ends)
				some[knob] = s.usual[knob]
				l, err := specs.Try(templates.FS, profile.Codec, strings.TrimSuffix(path.Base(file), ".yaml"), p.Pass.V, some)
				if err != nil {
					require.ErrorAs(t, err, new(gen.Complaints))
					continue
				}
				compiled += compiles(t, l, some)
				break
			}
		}
	}
	require.Greater(t, compiled, 5)
}

// compiles returns 1 if a candidate compiles. Otherwise there has to be another
// reason than its threadgroup memory.
func compiles(t *testing.T, l *gen.Library, p point) int {
	t.Helper()
	source, text, err := l.Text(templates.FS)
	require.NoError(t, err)
	rows := &runtime.Table{Codecs: []*runtime.Codec{l.Codec.Codec}, Kernels: l.Kernels()}
	found, err := msl.CheckSource(t.Context(), rows, source, string(text))
	require.NoError(t, err)
	if !msl.Failed(found) {
		return 1
	}
	require.True(t, slices.ContainsFunc(found, func(d msl.Diagnostic) bool {
		return strings.Contains(d.Message, "assertion failed") && !strings.Contains(d.Message, "threadgroup_bytes of")
	}), "%s %v: %v", source, p, found)
	return 0
}
