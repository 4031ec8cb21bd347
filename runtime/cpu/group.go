package cpu

import (
	"fmt"

	"github.com/marlingen/marlingen/runtime"
)

// block is the number of assignments that are counted together.
const block = 256

var count = &pass{
	params: []param{
		constant("shape", "Shape"),
		read("chosen", "uint", words(rows)),
		write("counts", "uint", words(blocks, experts)),
	},
	grid: runtime.Axis{Dim: runtime.Rows, Per: block},
	run: func(c *call) error {
		if err := c.below("chosen", c.uints("chosen"), c.shape.Experts, "experts"); err != nil {
			return err
		}
		return c.each(int(blocks(c.shape, nil)), countBlock)
	},
}

func countBlock(c *call, _ *scratch, b int) {
	chosen, experts := c.uints("chosen"), int(c.shape.Experts)
	counts := c.uints("counts")[b*experts : (b+1)*experts]
	clear(counts)
	for _, e := range chosen[b*block : min((b+1)*block, len(chosen))] {
		counts[e]++
	}
}

var prefix = &pass{
	params: []param{
		constant("shape", "Shape"),
		read("counts", "uint", words(blocks, experts)),
		write("base", "uint", words(blocks, experts)),
		write("offsets", "uint", words(expertsAndOne)),
	},
	run: func(c *call) error {
		counts, base, offsets := c.uints("counts"), c.uints("base"), c.uints("offsets")
		experts := int(c.shape.Experts)
		sum := uint64(0)
		for _, n := range counts {
			sum += uint64(n)
		}
		if sum != uint64(c.shape.Rows) {
			return fmt.Errorf("argument counts: %d assignments, and there are %d rows", sum, c.shape.Rows)
		}
		first := uint32(0)
		for e := range experts {
			offsets[e] = first
			for i := e; i < len(counts); i += experts {
				base[i] = first
				first += counts[i]
			}
		}
		offsets[experts] = first
		return nil
	},
}

var scatter = &pass{
	params: []param{
		constant("shape", "Shape"),
		read("chosen", "uint", words(rows)),
		read("chosen_prob", "float", words(rows)),
		read("base", "uint", words(blocks, experts)),
		write("token", "uint", words(rows)),
		write("prob", "float", words(rows)),
		write("row", "uint", words(tokens, slots)),
	},
	check: checkRows,
	grid:  runtime.Axis{Dim: runtime.Rows, Per: block},
	run:   runScatter,
}

// checkRows reports a shape whose rows are not its assignments.
func checkRows(s runtime.Shape, _ *routing) error {
	if uint64(s.Rows) != uint64(s.Tokens)*uint64(s.Slots) {
		return fmt.Errorf("shape: %d rows for %d tokens of %d slots", s.Rows, s.Tokens, s.Slots)
	}
	return nil
}

func runScatter(c *call) error {
	chosen, base := c.uints("chosen"), c.uints("base")
	if err := c.below("chosen", chosen, c.shape.Experts, "experts"); err != nil {
		return err
	}
	if err := checkBase(base, chosen, int(c.shape.Experts)); err != nil {
		return err
	}
	return c.each(int(blocks(c.shape, nil)), scatterBlock)
}

func scatterBlock(c *call, s *scratch, b int) {
	chosen, chosenProb := c.uints("chosen"), c.floats("chosen_prob")
	token, prob, row := c.uints("token"), c.floats("prob"), c.uints("row")
	experts, slots := int(c.shape.Experts), int(c.shape.Slots)
	next := sized(&s.next, experts)
	copy(next, c.uints("base")[b*experts:])
	for i := b * block; i < min((b+1)*block, len(chosen)); i++ {
		r := next[chosen[i]]
		next[chosen[i]]++
		token[r], prob[r], row[i] = uint32(i/slots), chosenProb[i], r
	}
}

// checkBase reports rows that base gives to none or to several of the
// assignments.
func checkBase(base, chosen []uint32, experts int) error {
	given := make([]bool, len(chosen))
	next := make([]uint32, experts)
	for i, e := range chosen {
		if i%block == 0 {
			copy(next, base[i/block*experts:])
		}
		r := next[e]
		if int64(r) >= int64(len(given)) || given[r] {
			return fmt.Errorf("argument base: it gives assignment %d, of expert %d, row %d of %d, which is not free", i, e, r, len(given))
		}
		given[r] = true
		next[e]++
	}
	return nil
}
