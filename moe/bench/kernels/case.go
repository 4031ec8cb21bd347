package kernels

import (
	"errors"
	"fmt"
	"slices"

	"github.com/marlingen/marlingen/runtime"
)

// A Case is what a run does: one pass over some experts.
type Case struct {
	// Kernels are of one pass. An expert is run by the first of them that can:
	// with several, their launches may overlap, as those of a layer do.
	Kernels []*runtime.Kernel

	Hidden, Intermediate int
	TopK                 int // experts of a token; with all of them, as many tokens as an expert has rows
	Experts              []Expert
}

// An Expert of a case.
type Expert struct {
	Tuple runtime.BitTuple
	Rows  int
}

// Even returns experts of the given tuples with as many rows each.
func Even(tuples []runtime.BitTuple, rows int) []Expert {
	var es []Expert
	for _, t := range tuples {
		es = append(es, Expert{t, rows})
	}
	return es
}

// Pass returns the pass of c's kernels.
func (c Case) Pass() runtime.Pass { return c.Kernels[0].Pass }

// rows returns the rows of all experts.
func (c Case) rows() (n int) {
	for _, e := range c.Experts {
		n += e.Rows
	}
	return n
}

// tokens returns the number of tokens whose assignments the rows are.
func (c Case) tokens() int {
	most := 0
	for _, e := range c.Experts {
		most = max(most, e.Rows)
	}
	return max(most, (c.rows()+c.TopK-1)/c.TopK)
}

// columns returns those of what the pass reads and of what it writes.
func (c Case) columns() (in, out int) {
	if c.Pass() == runtime.Down {
		return c.Intermediate, c.Hidden
	}
	return c.Hidden, c.Intermediate
}

// MACs returns the multiply-accumulates of c.
func (c Case) MACs() float64 {
	matrices := 2.
	if c.Pass() == runtime.Down {
		matrices = 1
	}
	return matrices * float64(c.rows()) * float64(c.Hidden) * float64(c.Intermediate)
}

// check says what is wrong with c.
func (c Case) check() error {
	if len(c.Kernels) == 0 || len(c.Experts) == 0 {
		return fmt.Errorf("a case of %d kernels and %d experts", len(c.Kernels), len(c.Experts))
	}
	var errs []error
	for _, k := range c.Kernels {
		if k.Codec != Codec {
			errs = append(errs, fmt.Errorf("kernel %s is for codec %q; there are weights of %s", k.Symbol, k.Codec, Codec))
		}
		if k.Pass != c.Pass() || k.Pass != runtime.GateUp && k.Pass != runtime.Down {
			errs = append(errs, fmt.Errorf("kernel %s is for pass %s; want the same for all, gate_up or down", k.Symbol, k.Pass))
		}
	}
	for _, n := range []int{c.Hidden, c.Intermediate} {
		if n < 16 || n%16 != 0 {
			errs = append(errs, fmt.Errorf("hidden %d, intermediate %d: want multiples of 16", c.Hidden, c.Intermediate))
			break
		}
	}
	if c.TopK < 1 {
		errs = append(errs, fmt.Errorf("top-%d", c.TopK))
	}
	return errors.Join(errs...)
}

// Codec is what the weights are in.
const Codec = "trellis"

// A launchPlan is a kernel and the experts that it runs.
type launchPlan struct {
	kernel  *runtime.Kernel
	experts []int
}

// plan says which kernel runs which experts: in the order of tuples, as a layer
// would have them. The error says of each tuple and number of rows that none
// runs why not.
func (b *Bench) plan(c Case) ([]launchPlan, error) {
	order := make([]int, len(c.Experts))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return c.Experts[i].Tuple.Compare(c.Experts[j].Tuple) })
	have := b.Library.Availability()
	chosen := map[Expert]*runtime.Kernel{}
	var plans []launchPlan
	var errs []error
	for _, i := range order {
		e := c.Experts[i]
		k, ok := chosen[e]
		if !ok {
			var err error
			if k, err = b.choose(c, e, have); err != nil {
				errs = append(errs, err)
			}
			chosen[e] = k
		}
		at := slices.IndexFunc(plans, func(p launchPlan) bool { return p.kernel == k })
		if at < 0 {
			at = len(plans)
			plans = append(plans, launchPlan{kernel: k})
		}
		plans[at].experts = append(plans[at].experts, i)
	}
	return plans, errors.Join(errs...)
}

// choose returns the kernel of c that runs e.
func (b *Bench) choose(c Case, e Expert, have runtime.Availability) (*runtime.Kernel, error) {
	var errs []error
	for _, k := range c.Kernels {
		choice, err := runtime.Select(b.Table, have, runtime.Request{
			Pass: k.Pass, Codec: k.Codec, Tuple: e.Tuple, Rows: e.Rows, Override: k.Symbol,
		})
		switch {
		case err != nil:
			errs = append(errs, err)
		case choice.Kernel != k:
			errs = append(errs, fmt.Errorf("kernel %s is not the table's", k.Symbol))
		default:
			return k, nil
		}
	}
	return nil, errors.Join(errs...)
}
