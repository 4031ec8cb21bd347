package kernels

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/marlingen/marlingen/moe"
	"github.com/marlingen/marlingen/moe/replay"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/oracle"
)

// A knownKey tells experts apart that one pass reads, by where in the pool their
// indices and factors begin.
type knownKey struct {
	inputKey
	tuple   runtime.BitTuple
	columns int
	at      [2]int
}

// expect returns what pass makes of the vectors by expert e.
func (b *Bench) expect(pass runtime.Pass, e *moe.Expert) (known, error) {
	key := knownKey{inputKey{pass, e.Gate.In}, e.Tuple(), e.Gate.Out, [2]int{e.Gate.Parts[0].Offset, e.Gate.Parts[1].Offset}}
	if pass == runtime.Down {
		key.size, key.columns = e.Down.In, e.Down.Out
	}
	if k, ok := b.known[key]; ok {
		return k, nil
	}
	var k known
	times := func(m moe.Matrix) (oracle.Matrix, error) { return replay.Matrix(b.pool.Data, e.Codec, m) }
	var expert oracle.Expert
	var err error
	if pass == runtime.Down {
		expert.Down, err = times(e.Down)
	} else if expert.Gate, err = times(e.Gate); err == nil {
		expert.Up, err = times(e.Up)
	}
	if err != nil {
		return k, err
	}
	for i, v := range b.vectors(key.inputKey) {
		if pass == runtime.Down {
			k[i] = expert.Down.Times(oracle.Floats(v))
		} else {
			k[i] = expert.GateUp(oracle.Floats(v))
		}
	}
	b.known[key] = k
	return k, nil
}

// poison is a NaN, whichever four of its bytes make a float.
const poison = 0xff

// verify runs every set on poisoned outputs. All of them have to be numbers;
// those of the first expert of each tuple of the first set, and of the last one
// of the last set, are held to the oracle.
func (r *Run) verify(ctx context.Context) error {
	for n, set := range r.sets {
		have, err := r.outputs(ctx, n)
		if err != nil {
			return err
		}
		judged := map[int]bool{}
		for e, last := range lastOfTuple(r.c.Experts) {
			if n == 0 && e == firstOf(r.c.Experts, r.c.Experts[e].Tuple) || n == len(r.sets)-1 && last {
				judged[e] = true
			}
		}
		for e := range r.c.Experts {
			if err := ctx.Err(); err != nil {
				return err
			}
			var want *known
			if judged[e] {
				k, err := r.bench.expect(r.c.Pass(), &set.experts[e])
				if err != nil {
					return err
				}
				want = &k
			}
			if err := r.judge(have, e, want); err != nil {
				return fmt.Errorf("set %d, expert %d of %v: %w", n, e, r.c.Experts[e].Tuple, err)
			}
		}
	}
	return nil
}

// firstOf returns the first expert of a tuple.
func firstOf(es []Expert, t runtime.BitTuple) int {
	for i, e := range es {
		if e.Tuple == t {
			return i
		}
	}
	return -1
}

// lastOfTuple returns, for each expert, whether no later one has its tuple.
func lastOfTuple(es []Expert) []bool {
	last := make([]bool, len(es))
	seen := map[runtime.BitTuple]bool{}
	for i := len(es) - 1; i >= 0; i-- {
		last[i] = !seen[es[i].Tuple]
		seen[es[i].Tuple] = true
	}
	return last
}

// judge looks at the rows of expert e: at what they are, and at whether they
// are as known, if that is given.
func (r *Run) judge(have []byte, e int, want *known) error {
	_, columns := r.c.columns()
	for i := range r.c.Experts[e].Rows {
		row := r.first[e] + i
		for o := range columns {
			v := float64(math.Float32frombits(binary.LittleEndian.Uint32(have[4*(row*columns+o):])))
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("its row %d, column %d is %v", i, o, v)
			}
			if want == nil {
				continue
			}
			vector, scale := want[r.token[row]%period], 1.
			if r.c.Pass() == runtime.Down {
				vector, scale = want[row%period], float64(r.prob[row])
			}
			off := math.Abs(v - scale*vector.Value[o])
			if off > 0 {
				off /= scale * vector.Magnitude[o]
			}
			r.Checked++
			r.Deviation = max(r.Deviation, off)
			if !(off <= r.bench.Tolerance) {
				return fmt.Errorf("its row %d, column %d is %v, and the oracle's %v: %.2g of the terms; the tolerance is %.0e",
					i, o, v, scale*vector.Value[o], off, r.bench.Tolerance)
			}
		}
	}
	return nil
}
