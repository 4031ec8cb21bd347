package tune

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// A Contender is something that can be timed: the kernels of a candidate, which
// are right.
type Contender interface {
	// Sample returns the time of a launch in ms.
	Sample(ctx context.Context) (float64, error)
	Close() error
}

// A Refused is an error that says why a candidate is left out: the generator, the
// compiler or the device refuses it, or its outputs are wrong.
type Refused struct{ Err error }

func (e *Refused) Error() string { return e.Err.Error() }
func (e *Refused) Unwrap() error { return e.Err }

// A Contest is a search among candidates for one that is faster than the usual.
type Contest struct {
	Key        string // of its entries in the journal
	Usual      string
	Neighbours func(of string) []string // candidates near one, the nearest first
	Most       int                      // contenders of a round of the search, the usual among them
	Journal    *Journal
	Open       func(ctx context.Context, candidate string) (Contender, error)

	// Prove holds a candidate that is about to win to more than Open does; it
	// may be nil.
	Prove func(ctx context.Context, candidate string) error

	Budget time.Duration // after which no further candidates are tried; 0 for none
	Step   func()        // after each measurement; may be nil

	refused map[string]string // by candidate
	tried   map[string]bool
	spent   float64 // ms
}

// An Outcome is what came of a contest.
type Outcome struct {
	Best    string            `json:"best"` // the usual, unless another is better
	Won     bool              `json:"won"`
	Before  float64           `json:"before_ms"` // median of the usual
	After   float64           `json:"after_ms"`  // median of the best of the others
	Other   string            `json:"other"`     // the best of the others; empty if there were none
	Gain    float64           `json:"gain"`      // part of the time that the other saves at least
	Noise   float64           `json:"noise"`     // part of the time by which the usual may differ from itself
	Rounds  int               `json:"rounds"`    // that both were measured in, in turns
	Tried   int               `json:"tried"`     // candidates that were timed
	Refused map[string]string `json:"refused"`   // why others were left out
}

const (
	firstRounds   = 3  // of the first step of halving; each further one has twice as many
	finalists     = 3  // besides the usual
	finalRounds   = 11 // in which the finalists are measured again
	confirmRounds = 21 // in which the best of them is, with the usual twice
	mostRefines   = 4  // rounds of the search: the neighbours of the best so far
	twin          = "the usual again"
)

// Run searches: the neighbours of the usual, by halving, in turns; those of the
// best, until that is the best of them; then the finalists again, and the best of
// these once more, beside the usual and its twin. It wins if what it saves at
// least is more than the twins may differ by. A usual that is refused is an error.
func (c *Contest) Run(ctx context.Context) (Outcome, error) {
	c.refused, c.tried = map[string]string{}, map[string]bool{c.Usual: true}
	switch why, err := c.admit(ctx, c.Usual); {
	case err != nil:
		return Outcome{}, err
	case why != "":
		return Outcome{}, fmt.Errorf("%s, as in the spec: %s", c.Usual, why)
	}
	leaders := []string{c.Usual}
	for i := range mostRefines {
		field, err := c.field(ctx, leaders[0])
		if err != nil {
			return Outcome{}, err
		}
		if len(field) == 0 {
			break
		}
		next, err := c.halve(ctx, fmt.Sprintf("search %d", i), c.without(append(slices.Clone(leaders), field...)))
		if err != nil {
			return Outcome{}, err
		}
		same := next[0] == leaders[0]
		leaders = next
		if same || c.Budget > 0 && c.spent > float64(c.Budget.Milliseconds()) {
			break
		}
	}
	return c.decide(ctx, c.without(leaders))
}

// without returns candidates without the usual, each once.
func (c *Contest) without(candidates []string) (others []string) {
	for _, o := range candidates {
		if o != c.Usual && !slices.Contains(others, o) {
			others = append(others, o)
		}
	}
	return others
}

// field returns neighbours that nobody tried yet and that are not refused, as many
// as there may be.
func (c *Contest) field(ctx context.Context, of string) (field []string, err error) {
	for _, n := range c.Neighbours(of) {
		if len(field) == c.Most-1 {
			break
		}
		if c.tried[n] || n == c.Usual {
			continue
		}
		why, err := c.admit(ctx, n)
		if err != nil {
			return nil, err
		}
		c.tried[n] = true
		if c.refused[n] = why; why == "" {
			delete(c.refused, n)
			field = append(field, n)
		}
	}
	return field, nil
}

// admit says why a candidate is refused, or nothing.
func (c *Contest) admit(ctx context.Context, candidate string) (why string, err error) {
	key := c.Key + "/admitted/" + candidate
	if ok, err := c.Journal.get(key, &why); ok || err != nil {
		return why, err
	}
	contender, err := c.Open(ctx, candidate)
	if refused := (*Refused)(nil); errors.As(err, &refused) {
		if why = refused.Error(); candidate == c.Usual {
			return why, nil // whoever mends it begins anew
		}
		return why, c.Journal.put(key, why)
	}
	if err != nil {
		return "", err
	}
	return "", errors.Join(contender.Close(), c.Journal.put(key, ""))
}

// halve measures candidates beside the usual in rounds, and drops the slower half
// until there are few. It returns those, and the usual, the fastest first.
func (c *Contest) halve(ctx context.Context, stage string, field []string) (_ []string, err error) {
	open := contenders{}
	defer func() { err = errors.Join(err, open.closeBut(nil)) }()
	rounds := firstRounds
	for step := 0; ; step++ {
		all := append([]string{c.Usual}, field...)
		if err := open.closeBut(all); err != nil {
			return nil, err
		}
		times, err := c.measure(ctx, fmt.Sprintf("%s.%d", stage, step), all, rounds, open)
		if err != nil {
			return nil, err
		}
		field = rank(field, times, c.Usual)
		if len(field) <= finalists {
			field = append(field, c.Usual)
			return rank(field, times, c.Usual), nil
		}
		field = field[:max(finalists, (len(field)+1)/2)]
		rounds *= 2
	}
}

// rank sorts candidates by their time relative to the usual's in the same round.
func rank(field []string, times map[string][]float64, usual string) []string {
	field = slices.Clone(field)
	ratio := func(candidate string) float64 { return median(logRatios(times[candidate], times[usual])) }
	slices.SortStableFunc(field, func(a, b string) int { return cmp.Compare(ratio(a), ratio(b)) })
	return field
}

// decide measures what is left again, and says whether the best of it wins.
func (c *Contest) decide(ctx context.Context, field []string) (Outcome, error) {
	o := Outcome{Best: c.Usual, Tried: len(c.tried) - len(c.refused), Refused: c.refused}
	field = field[:min(len(field), finalists)]
	if len(field) == 0 {
		return o, nil
	}
	times, err := c.measureAnew(ctx, "final", append([]string{c.Usual}, field...), finalRounds)
	if err != nil {
		return o, err
	}
	for _, other := range rank(field, times, c.Usual) {
		why, err := c.prove(ctx, other)
		if err != nil {
			return o, err
		}
		if why != "" {
			c.refused[other] = why
			continue
		}
		return c.confirm(ctx, o, other)
	}
	return o, nil
}

// prove says why a candidate fails the proof, or nothing.
func (c *Contest) prove(ctx context.Context, candidate string) (why string, err error) {
	if c.Prove == nil {
		return "", nil
	}
	key := c.Key + "/proved/" + candidate
	if ok, err := c.Journal.get(key, &why); ok || err != nil {
		return why, err
	}
	err = c.Prove(ctx, candidate)
	if refused := (*Refused)(nil); errors.As(err, &refused) {
		why = refused.Error()
	} else if err != nil {
		return "", err
	}
	return why, c.Journal.put(key, why)
}

// confirm says whether other is faster than the usual by more than the usual is
// than its twin.
func (c *Contest) confirm(ctx context.Context, o Outcome, other string) (Outcome, error) {
	times, err := c.measureAnew(ctx, "confirm "+other, []string{c.Usual, other, twin}, confirmRounds)
	if err != nil {
		return o, err
	}
	saved := spreadOf(logRatios(times[other], times[c.Usual]))
	itself := spreadOf(logRatios(times[twin], times[c.Usual]))
	o.Other, o.Rounds = other, confirmRounds
	o.Before, o.After = median(times[c.Usual]), median(times[other])
	o.Gain = 1 - math.Exp(saved.high)
	o.Noise = 1 - math.Exp(-max(math.Abs(itself.low), math.Abs(itself.high)))
	if o.Won = o.Gain > o.Noise; o.Won {
		o.Best = other
	}
	return o, nil
}

// A round is an entry of the journal: the times of contenders that were measured
// one after the other.
type round struct {
	MS   map[string]float64 `json:"ms"`
	Took float64            `json:"took_ms"`
}

// contenders are those that are open, by candidate.
type contenders map[string]Contender

// closeBut closes those of other candidates.
func (open contenders) closeBut(candidates []string) (err error) {
	for candidate, o := range open {
		if !slices.Contains(candidates, candidate) {
			err = errors.Join(err, o.Close())
			delete(open, candidate)
		}
	}
	return err
}

// measureAnew is measure with contenders of its own: where their memory happens to
// lie was nobody's advantage in what came before.
func (c *Contest) measureAnew(ctx context.Context, stage string, candidates []string, rounds int) (times map[string][]float64, err error) {
	open := contenders{}
	defer func() { err = errors.Join(err, open.closeBut(nil)) }()
	return c.measure(ctx, stage, candidates, rounds, open)
}

// measure returns the times of candidates in rounds. In each, every candidate is
// sampled once, in an order of its own. It opens those that are not.
func (c *Contest) measure(ctx context.Context, stage string, candidates []string, rounds int, open contenders) (map[string][]float64, error) {
	times := map[string][]float64{}
	for i := range rounds {
		key := fmt.Sprintf("%s/%s/%d", c.Key, stage, i)
		var r round
		ok, err := c.Journal.get(key, &r)
		if err != nil {
			return nil, err
		}
		if !ok {
			if err := c.open(ctx, candidates, open); err != nil {
				return nil, err
			}
			if r, err = sample(ctx, candidates, open, uint64(i)); err != nil {
				return nil, err
			}
			if err := c.Journal.put(key, r); err != nil {
				return nil, err
			}
		}
		c.spent += r.Took
		for _, candidate := range candidates {
			ms, ok := r.MS[candidate]
			if !ok || !(ms > 0) {
				return nil, fmt.Errorf("%s: %s took %v ms", key, candidate, ms)
			}
			times[candidate] = append(times[candidate], ms)
		}
		if c.Step != nil {
			c.Step()
		}
	}
	return times, nil
}

// open opens the candidates that are not.
func (c *Contest) open(ctx context.Context, candidates []string, open contenders) error {
	for _, candidate := range candidates {
		if open[candidate] != nil {
			continue
		}
		what := candidate
		if what == twin {
			what = c.Usual
		}
		o, err := c.Open(ctx, what)
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		open[candidate] = o
	}
	return nil
}

// sample measures a round.
func sample(ctx context.Context, candidates []string, open contenders, n uint64) (round, error) {
	start := time.Now()
	order := slices.Clone(candidates)
	rand.New(rand.NewPCG(n, 1)).Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	r := round{MS: map[string]float64{}}
	for _, candidate := range order {
		ms, err := open[candidate].Sample(ctx)
		if err != nil {
			return r, fmt.Errorf("%s: %w", candidate, err)
		}
		r.MS[candidate] = ms
	}
	r.Took = float64(time.Since(start).Microseconds()) / 1e3
	return r, nil
}
