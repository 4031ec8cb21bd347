package cpu_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
)

// TestJoin holds launches of one submission, which may run as one, to the same
// launches each waited for: what they write, and which fail. It also counts those
// that do run as one with the first.
func TestJoin(t *testing.T) {
	const one = "moe_trellis_swiglu_decode" // row of an item
	for name, v := range map[string]struct {
		symbols []string
		work    [][]runtime.Work
		wrong   int // launches
		joined  int // to the first, itself included
	}{
		"of two kernels": {
			[]string{gateUp, one}, [][]runtime.Work{{{Expert: 2, First: 5, Rows: 3}, {Expert: 0, First: 1, Rows: 4}}, {{Expert: 1, First: 0, Rows: 1}, {Expert: 1, First: 8, Rows: 1}}}, 0, 2,
		},
		"of another pass between them": {
			[]string{gateUp, down, gateUp}, [][]runtime.Work{{{Expert: 2, First: 5, Rows: 3}}, {{Expert: 2, First: 5, Rows: 4}}, {{Expert: 2, First: 8, Rows: 3}}}, 0, 1,
		},
		"of three lists": {
			[]string{down, down, down}, [][]runtime.Work{{{Expert: 2, First: 0, Rows: 3}}, {{Expert: 1, First: 3, Rows: 3}}, {{Expert: 1, First: 6, Rows: 3}}}, 0, 3,
		},
		"with a row in both": {
			[]string{down, down}, [][]runtime.Work{{{Expert: 2, First: 0, Rows: 3}}, {{Expert: 1, First: 2, Rows: 3}}}, 0, 1,
		},
		"of which the first is wrong": {
			[]string{down, down, down}, [][]runtime.Work{{{Expert: 3, First: 0, Rows: 3}}, {{Expert: 1, First: 3, Rows: 3}}, {{Expert: 1, First: 6, Rows: 3}}}, 1, 1,
		},
		"of which all but the second are wrong": {
			[]string{one, one, one}, [][]runtime.Work{{{Expert: 1, First: 0, Rows: 2}}, {{Expert: 1, First: 2, Rows: 1}}, {{Expert: 1, First: rows, Rows: 1}}}, 2, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			dev := cpu.New(cpu.Options{Workers: 2})
			// run returns what is written, and the errors of the launches.
			run := func(together bool) (written []map[string][]byte, words []string) {
				q := queue(t, dev)
				buffers := map[string]runtime.Arg{}
				var launches []runtime.Launch
				for i, symbol := range v.symbols {
					l := good(symbol)
					l.work, l.shape.Items = v.work[i], uint32(len(v.work[i]))
					made := l.make(t, dev)
					for j, b := range l.kernel.Bindings {
						if b.Access == runtime.Constant || b.Name == "work" {
							continue
						}
						if _, ok := buffers[b.Name]; !ok {
							buffers[b.Name] = made.Args[j]
						}
						made.Args[j] = buffers[b.Name]
					}
					launches = append(launches, made)
				}
				note := func(err error) {
					failed, only := runtime.FailedLaunches(err)
					require.True(t, only)
					for _, e := range failed {
						words = append(words, e.Error())
					}
				}
				for _, l := range launches {
					require.NoError(t, q.Launch(l))
					if !together {
						note(q.Wait(t.Context()))
					}
				}
				if together {
					assert.Equal(t, v.joined, cpu.RunFirst(t.Context(), q))
				}
				note(q.Wait(t.Context()))
				for _, l := range launches {
					written = append(written, outputs(t, l))
				}
				return written, words
			}
			want, wantWords := run(false)
			have, words := run(true)
			assert.Len(t, words, v.wrong)
			assert.Equal(t, wantWords, words)
			assert.Equal(t, want, have)
		})
	}
}
