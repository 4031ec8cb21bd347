package moe

import (
	"errors"
	"fmt"
)

// Assignments are the rows that a layer computes: every (token, slot) pair,
// sorted by expert and, within an expert, by token·slots+slot.
type Assignments struct {
	Tokens, Slots int
	Token         []uint32  // [rows]
	Slot          []uint32  // [rows]
	Prob          []float32 // [rows]
	Row           []uint32  // [tokens, slots]: where each assignment went
	Offsets       []int     // [experts+1]: the rows of expert e are Offsets[e] to Offsets[e+1]
}

// Assign sorts assignments: chosen and prob are [tokens, slots]. It is an error
// if they are of different lengths, no whole number of tokens, or if an expert
// is not one of the given number.
func Assign(chosen []int, prob []float32, slots, experts int) (*Assignments, error) {
	a := new(Assignments)
	if err := a.assign(chosen, prob, slots, experts); err != nil {
		return nil, err
	}
	return a, nil
}

// assign is Assign into the memory of a.
func (a *Assignments) assign(chosen []int, prob []float32, slots, experts int) error {
	if slots < 1 || len(chosen)%slots != 0 || len(prob) != len(chosen) {
		return fmt.Errorf("%d experts and %d weights in slots of %d", len(chosen), len(prob), slots)
	}
	rows := len(chosen)
	a.Tokens, a.Slots = rows/slots, slots
	a.Token, a.Slot, a.Prob, a.Row = sized(a.Token, rows), sized(a.Slot, rows), sized(a.Prob, rows), sized(a.Row, rows)
	a.Offsets = sized(a.Offsets, experts+1)
	clear(a.Offsets)
	var errs []error
	for i, e := range chosen {
		if e < 0 || e >= experts {
			errs = append(errs, fmt.Errorf("token %d, slot %d: expert %d of %d", i/slots, i%slots, e, experts))
			continue
		}
		a.Offsets[e+1]++
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for e := range experts {
		a.Offsets[e+1] += a.Offsets[e]
	}
	for i, e := range chosen {
		row := a.Offsets[e]
		a.Offsets[e]++
		a.Token[row] = uint32(i / slots)
		a.Slot[row] = uint32(i % slots)
		a.Prob[row] = prob[i]
		a.Row[i] = uint32(row)
	}
	// Each offset has moved to that of the next expert.
	copy(a.Offsets[1:], a.Offsets[:experts])
	a.Offsets[0] = 0
	return nil
}

// Rows returns the number of rows of expert e.
func (a *Assignments) Rows(e int) int { return a.Offsets[e+1] - a.Offsets[e] }
