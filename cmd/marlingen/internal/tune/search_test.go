package tune

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A simulation is a device whose launches take as long as it is told.
type simulation struct {
	ms      func(candidate string) float64
	noise   float64 // standard deviation of a sample, relative
	offset  float64 // of a contender, relative: where its buffers happen to lie
	refused map[string]error
	kill    int // the sample at which the process is ended; 0 for never

	random  *rand.Rand
	drift   float64
	samples int
	open    int
}

type simulated struct {
	s         *simulation
	candidate string
	factor    float64
}

var errKilled = errors.New("killed")

func (s *simulation) contender(_ context.Context, candidate string) (Contender, error) {
	if err := s.refused[candidate]; err != nil {
		return nil, &Refused{err}
	}
	s.open++
	return &simulated{s, candidate, math.Exp(s.offset * s.random.NormFloat64())}, nil
}

func (c *simulated) Sample(context.Context) (float64, error) {
	s := c.s
	if s.samples++; s.samples == s.kill {
		return 0, errKilled
	}
	s.drift += s.noise * 0.3 * s.random.NormFloat64() // the machine's clock wanders
	ms := s.ms(c.candidate) * c.factor * math.Exp(s.drift+s.noise*s.random.NormFloat64())
	if s.noise > 0 && s.random.IntN(50) == 0 {
		ms *= 1.5 // somebody else's turn
	}
	return ms, nil
}

func (c *simulated) Close() error {
	c.s.open--
	return nil
}

// lineOf is a row of n+1 candidates, of which number usual is; each is next to two.
func lineOf(n, usual int) *Contest {
	name := func(i int) string { return fmt.Sprintf("%d", i) }
	return &Contest{
		Key: "line", Usual: name(usual), Most: n,
		Neighbours: func(of string) (ns []string) {
			var at int
			fmt.Sscan(of, &at)
			for d := 1; d <= 3; d++ {
				for _, i := range []int{at - d, at + d} {
					if i >= 0 && i < n {
						ns = append(ns, name(i))
					}
				}
			}
			return ns
		},
	}
}

// bowl is fastest at 5.
func bowl(candidate string) float64 {
	var i float64
	fmt.Sscan(candidate, &i)
	return 1 + 0.02*(i-5)*(i-5)
}

func (s *simulation) run(t *testing.T, c *Contest, seed uint64) Outcome {
	t.Helper()
	o, err := s.try(t.Context(), c, seed)
	require.NoError(t, err)
	require.Zero(t, s.open, "contenders are closed")
	return o
}

func (s *simulation) try(ctx context.Context, c *Contest, seed uint64) (Outcome, error) {
	s.random = rand.New(rand.NewPCG(seed, 7))
	if c.Journal == nil {
		c.Journal = &Journal{entries: map[string]json.RawMessage{}}
	}
	c.Open = s.contender
	return c.Run(ctx)
}

// The optimum is found under noise, and what it saves is not overstated.
func TestFindsOptimum(t *testing.T) {
	found, overstated := 0, 0
	const runs = 50
	for seed := range uint64(runs) {
		s := &simulation{ms: bowl, noise: 0.01, offset: 0.001}
		o := s.run(t, lineOf(12, 11), seed)
		require.True(t, o.Won, "%+v", o)
		if o.Best == "5" {
			found++
		}
		if saves := 1 - bowl(o.Best)/bowl("11"); o.Gain > saves+0.002 {
			overstated++
		}
		require.Less(t, bowl(o.Best), 1.03, "never far from it")
		require.Greater(t, o.Noise, 0.0)
	}
	require.Greater(t, found, runs/2)
	require.LessOrEqual(t, overstated, 1)
}

// A budget that is spent ends the search for more, and not the finals.
func TestBudget(t *testing.T) {
	s := &simulation{ms: bowl}
	c := lineOf(12, 11)
	c.Budget = 1
	o := s.run(t, c, 1)
	require.True(t, o.Won)
	require.Equal(t, "8", o.Best, "of the neighbours of 11")
	require.Equal(t, confirmRounds, o.Rounds)
	require.InDelta(t, 1-bowl("8")/bowl("11"), o.Gain, 1e-9)
	require.InDelta(t, 0, o.Noise, 1e-9)
}

// Where nothing is faster, nothing wins, and so it is where the difference is
// smaller than the noise.
func TestNoWinWithinNoise(t *testing.T) {
	for seed := range uint64(200) {
		for _, s := range []*simulation{
			{ms: func(string) float64 { return 1 }, noise: 0.02},
			{ms: func(string) float64 { return 1 }, noise: 0.2, offset: 0.001},
			{ms: func(c string) float64 { return 1 - 0.0005*float64(len(c)) }, noise: 0.05},
		} {
			o := s.run(t, lineOf(8, 3), seed)
			require.False(t, o.Won, "%+v", o)
			require.Equal(t, "3", o.Best)
		}
	}
}

// Candidates that are refused are left out, with the reason; so is one that fails
// the proof, although it is the fastest.
func TestRefused(t *testing.T) {
	s := &simulation{ms: bowl, noise: 0.001, refused: map[string]error{
		"5": errors.New("error: static assertion failed"), "6": errors.New("column 3 is 7, want 8"),
	}}
	c := lineOf(12, 9)
	c.Prove = func(_ context.Context, candidate string) error {
		if candidate == "4" {
			return &Refused{errors.New("rows of nobody are written")}
		}
		return nil
	}
	o := s.run(t, c, 1)
	require.Contains(t, []string{"7", "3"}, o.Best)
	require.Equal(t, "error: static assertion failed", o.Refused["5"])
	require.Equal(t, "column 3 is 7, want 8", o.Refused["6"])
	require.Equal(t, "rows of nobody are written", o.Refused["4"])

	for i := range 9 {
		s.refused[fmt.Sprint(i)] = errors.New("no")
	}
	s.refused["10"], s.refused["11"] = errors.New("no"), errors.New("no")
	o = s.run(t, lineOf(12, 9), 1)
	require.Equal(t, "9", o.Best)
	require.Len(t, o.Refused, 5)
	require.Equal(t, 1, o.Tried)

	s.refused["9"] = errors.New("column 3 is 7, want 8")
	_, err := s.try(t.Context(), lineOf(12, 9), 1)
	require.EqualError(t, err, "9, as in the spec: column 3 is 7, want 8")
}

// Killed at any sample, with the last line torn, the search goes on from what it
// has measured and comes to the same end.
func TestResume(t *testing.T) {
	head := Head{Device: "GPU 9", Driver: "1.2", Profile: "p", Options: "o"}
	run := func(path string, kill int) (Outcome, int, error) {
		s := &simulation{ms: bowl, random: rand.New(rand.NewPCG(1, 1)), kill: kill}
		j, err := OpenJournal(path, head)
		require.NoError(t, err)
		require.Empty(t, j.Dropped)
		c := lineOf(12, 11)
		c.Journal, c.Open = j, s.contender
		o, err := c.Run(t.Context())
		require.NoError(t, j.Close())
		require.Zero(t, s.open)
		return o, s.samples, err
	}
	want, all, err := run(filepath.Join(t.TempDir(), "whole"), 0)
	require.NoError(t, err)
	require.Equal(t, "5", want.Best)
	dir := t.TempDir()
	for kill := 1; kill <= all; kill++ {
		path := filepath.Join(dir, fmt.Sprint(kill))
		_, _, err := run(path, kill)
		require.ErrorIs(t, err, errKilled)
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(path, append(text, `{"key":"line/fin`...), 0o644))
		have, samples, err := run(path, 0)
		require.NoError(t, err)
		require.Equal(t, want, have, "killed at sample %d", kill)
		require.LessOrEqual(t, samples, all-kill+14, "killed at sample %d: what was measured stays", kill)
	}
}

// Once more is no more work.
func TestJournalHolds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	head := Head{Device: "GPU 9", Driver: "1.2", Profile: "p", Shape: "s", Options: "o"}
	run := func(h Head, entries int, dropped string) int {
		j, err := OpenJournal(path, h)
		require.NoError(t, err)
		require.Equal(t, dropped, j.Dropped)
		require.Equal(t, entries, min(j.Resumed, 1))
		s := &simulation{ms: bowl}
		c := lineOf(12, 11)
		c.Journal = j
		s.run(t, c, 1)
		require.NoError(t, j.Close())
		return s.samples
	}
	require.Positive(t, run(head, 0, ""))
	require.Zero(t, run(head, 1, ""))
	head.Driver = "1.3"
	require.Positive(t, run(head, 0, `its driver is "1.2", not "1.3"`))
	head.Device = "GPU 8"
	require.Positive(t, run(head, 0, `its device is "GPU 9", not "GPU 8"`))
	require.Zero(t, run(head, 1, ""))

	for text, want := range map[string]string{
		"{\n": ":1: it is no journal of tune",
		`{"tune":1,"device":"GPU 8","driver":"1.3","profile":"p","shape":"s","options":"o"}` + "\n{}\n":            ":2: it is no entry",
		`{"tune":1,"device":"GPU 8","driver":"1.3","profile":"p","shape":"s","options":"o"}` + "\n\n{\"key\":1}\n": ":3: it is no entry",
	} {
		require.NoError(t, os.WriteFile(path, []byte(text), 0o644))
		_, err := OpenJournal(path, head)
		require.ErrorContains(t, err, path+want)
	}
	require.NoError(t, os.WriteFile(path, []byte(strings.Repeat("x", 9)), 0o644))
	j, err := OpenJournal(path, head) // a first line that was not completed
	require.NoError(t, err)
	require.NoError(t, j.Close())
	require.NoError(t, j.Remove())
}

// The bounds of a median are wrong as seldom as they say.
func TestSpread(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	wrong := 0
	const runs = 20000
	for range runs {
		xs := make([]float64, confirmRounds)
		for i := range xs {
			xs[i] = r.ExpFloat64()
		}
		if s := spreadOf(xs); s.low > math.Ln2 || s.high < math.Ln2 {
			wrong++
		}
	}
	require.Less(t, float64(wrong), 2*doubt*runs)
	require.Positive(t, wrong, "and are no wider than they have to be")
	require.Equal(t, spread{math.Inf(-1), 2, math.Inf(1)}, spreadOf([]float64{3, 1, 2}))
	require.Equal(t, 2.5, median([]float64{4, 1, 2, 3}))
}

// No bytes make a journal that panics, or one that is read and then not.
func FuzzJournal(f *testing.F) {
	head := Head{Version: headVersion, Device: "d"}
	f.Add([]byte(`{"tune":1,"device":"d","driver":"","profile":"","shape":"","options":""}` + "\n" + `{"key":"a","value":1}` + "\n{"))
	f.Fuzz(func(t *testing.T, text []byte) {
		j := &Journal{path: "j", entries: map[string]json.RawMessage{}}
		whole, err := j.read(text, head)
		require.LessOrEqual(t, whole, len(text))
		if err != nil {
			require.ErrorContains(t, err, "j:")
			return
		}
		again := &Journal{path: "j", entries: map[string]json.RawMessage{}}
		same, err := again.read(text[:whole], head)
		require.NoError(t, err)
		require.Equal(t, whole, same)
		require.Equal(t, j.entries, again.entries)
	})
}
