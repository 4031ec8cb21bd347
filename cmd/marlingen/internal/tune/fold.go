package tune

import (
	"slices"
	"time"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/runtime"
)

// A Provenance is where results are from.
type Provenance struct {
	Device  runtime.Info
	Target  string
	Codec   string
	Profile string
	Time    time.Time
	Run     string // id
	Commit  string // of the command
}

// Fold returns what a device's file of specs/tuned has to hold: what of old is of
// the same device and driver, and current, but for the passes that results are
// about, and of these what is better than the spec.
func Fold(old gen.TunedSpec, results []Result, p Provenance, current func(family, source string) bool) gen.TunedSpec {
	s := gen.TunedSpec{
		Device: at(p.Device.Name), Driver: at(p.Device.Driver), Word: at(gen.DeviceWord(p.Device.Name)),
		Target: at(p.Target), Codec: at(p.Codec),
	}
	if old.Device.V == s.Device.V && old.Driver.V == s.Driver.V && old.Codec.V == s.Codec.V && old.Target.V == s.Target.V {
		for _, f := range old.Families {
			if current(f.Family.V, f.Source.V) {
				f.Passes = slices.DeleteFunc(slices.Clone(f.Passes), func(t gen.TunedPassSpec) bool {
					return slices.ContainsFunc(results, func(r Result) bool { return r.Family == f.Family.V && r.Pass == t.Pass.V })
				})
				s.Families = append(s.Families, f)
			}
		}
	}
	for _, r := range results {
		if !r.Won() {
			continue
		}
		i := slices.IndexFunc(s.Families, func(f gen.TunedFamilySpec) bool { return f.Family.V == r.Family })
		if i < 0 {
			i = len(s.Families)
			s.Families = append(s.Families, gen.TunedFamilySpec{Family: at(r.Family), Source: at(r.Source)})
		}
		f := &s.Families[i]
		f.Profile, f.Time, f.Run, f.Commit = at(p.Profile), at(p.Time.UTC().Format(time.RFC3339)), at(p.Run), at(p.Commit)
		f.Passes = append(f.Passes, r.pass())
	}
	s.Families = slices.DeleteFunc(s.Families, func(f gen.TunedFamilySpec) bool { return len(f.Passes) == 0 })
	return s
}

// pass returns what is better than the spec.
func (r *Result) pass() gen.TunedPassSpec {
	p := gen.TunedPassSpec{Pass: at(r.Pass)}
	if len(r.Numbers) > 0 {
		p.Numbers = map[string]gen.At[int]{}
		for knob, v := range r.Numbers {
			p.Numbers[knob] = at(v)
		}
	}
	if r.Kinds.Alone != "" {
		p.Alone = at(r.Kinds.Alone)
	}
	if r.Kinds.Shared != "" {
		p.Shared = at(r.Kinds.Shared)
	}
	for _, what := range Contests {
		if o := r.Contests[what]; o.Won {
			p.Gains = append(p.Gains, gen.GainSpec{
				Of: at(what), Before: at(o.Before), After: at(o.After), Gain: at(o.Gain), Noise: at(o.Noise), Rounds: at(o.Rounds),
			})
		}
	}
	return p
}

// Contests are what contests are about, in their order.
var Contests = []string{gen.GainNumbers, gen.GainShared, gen.GainAlone}

// at is a value that no line has written yet.
func at[T any](v T) gen.At[T] { return gen.At[T]{V: v} }
