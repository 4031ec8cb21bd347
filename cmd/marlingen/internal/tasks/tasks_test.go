package tasks_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"github.com/marlingen/marlingen/cmd/marlingen/internal/tasks"
	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/templates"
)

var root = os.DirFS("../../../..")

// programs are those of a job runner that has what plans ask for.
func programs(name string) bool {
	return slices.Contains([]string{"marlingen", "go", "git", "grep", "egrep", "rg", "jq", "python3", "cat", "ls", "head", "tee"}, name)
}

var (
	wants  = regexp.MustCompile(`# want ((?:"(?:[^"\\]|\\.)*" ?)+)`)
	quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)
)

// Each testdata/bad/*.yaml is a plan that says, on each line at fault, what is
// wrong with it: # want "a regular expression" for each complaint.
func TestBadPlans(t *testing.T) {
	paths, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, paths)
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			src, err := os.ReadFile(path)
			require.NoError(t, err)
			want := map[int][]string{}
			for i, line := range strings.Split(string(src), "\n") {
				m := wants.FindStringSubmatch(line)
				if m == nil {
					continue
				}
				for _, q := range quoted.FindAllString(m[1], -1) {
					pattern, err := strconv.Unquote(q)
					require.NoError(t, err, line)
					want[i+1] = append(want[i+1], pattern)
				}
			}
			require.NotEmpty(t, want)
			complaints := tasks.Lint(path, src, programs)
			require.True(t, slices.IsSortedFunc(complaints, func(a, b tasks.Complaint) int { return a.Line - b.Line }))
			for _, c := range complaints {
				require.Equal(t, path, c.File)
				i := slices.IndexFunc(want[c.Line], func(pattern string) bool { return regexp.MustCompile(pattern).MatchString(c.Msg) })
				require.GreaterOrEqual(t, i, 0, "no line wants: %v", c)
				want[c.Line] = slices.Delete(want[c.Line], i, i+1)
			}
			for line, patterns := range want {
				require.Empty(t, patterns, "not complained of on line %d", line)
			}
		})
	}
}

func profile(t *testing.T) *runtime.Profile {
	t.Helper()
	i := slices.IndexFunc(generated.Profiles, func(p *runtime.Profile) bool { return p.Name == "glm47" })
	require.GreaterOrEqual(t, i, 0)
	return generated.Profiles[i]
}

func plan(t *testing.T, families ...string) *tasks.Plan {
	t.Helper()
	p, err := tasks.New(tasks.Options{
		Name: "autotune", Root: root, Bodies: templates.FS, Profile: profile(t), Device: "metal", Target: runtime.Metal3, Families: families,
	})
	require.NoError(t, err)
	return p
}

// What is planned passes the check, and what is read is what was written.
func TestPlanPasses(t *testing.T) {
	p := plan(t)
	text, err := p.Encode()
	require.NoError(t, err)
	require.Empty(t, tasks.Lint("plan.yaml", text, programs))
	var back tasks.Plan
	require.NoError(t, yaml.Unmarshal(text, &back))
	require.Equal(t, p, &back)

	again, err := plan(t).Encode()
	require.NoError(t, err)
	require.Equal(t, string(text), string(again), "the same specs give the same bytes")
}

func TestPlan(t *testing.T) {
	p := plan(t, "decode")
	var names []string
	for _, task := range p.Tasks {
		names = append(names, task.Name)
	}
	require.Equal(t, []string{
		"baseline",
		"decode-chunk-512", "bench-decode-chunk-512", "decode-chunk-2048", "bench-decode-chunk-2048",
		"decode-threads-64", "bench-decode-threads-64", "decode-threads-256", "bench-decode-threads-256",
		"decode-prefer-tuple", "bench-decode-prefer-tuple",
		"collect",
	}, names, "what the spec declares")

	change, bench, collect := p.Tasks[1], p.Tasks[2], p.Tasks[len(p.Tasks)-1]
	require.Equal(t, []string{"baseline", "decode-chunk-512"}, bench.Dependencies)
	require.Equal(t, change.Workdir, bench.Workdir)
	require.Equal(t, "device", bench.Exclusive)
	require.Contains(t, change.Prompt, `specs/families/decode.yaml, write "chunk: 512" for "chunk: 1024"`)
	require.Contains(t, bench.VerifyCommand, "counters.launches."+generated.MoeTrellisSwigluDecodeFairway+">=1")
	require.Contains(t, bench.VerifyCommand, "cells.*.labels.batch=1'")
	require.Contains(t, p.Tasks[10].VerifyCommand, "counters.launches."+generated.MoeTrellisSwigluDecode623+">=1")
	require.Len(t, collect.Dependencies, 5)

	// What the generator refuses is no candidate: 1024 threads are the most.
	edited := t.TempDir()
	require.NoError(t, os.CopyFS(filepath.Join(edited, "specs"), os.DirFS("../../../../specs")))
	spec := filepath.Join(edited, "specs/families/decode.yaml")
	text, err := os.ReadFile(spec)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(spec, []byte(strings.ReplaceAll(string(text), "threads: [64,", "threads: [64, 1024, 2048,")), 0o644))
	p, err = tasks.New(tasks.Options{Root: os.DirFS(edited), Bodies: templates.FS, Profile: profile(t), Device: "metal", Target: runtime.Metal3, Families: []string{"decode"}})
	require.NoError(t, err)
	names = nil
	for _, task := range p.Tasks {
		names = append(names, task.Name)
	}
	require.Contains(t, names, "decode-threads-1024")
	require.NotContains(t, names, "decode-threads-2048")

	// A knob that stands elsewhere in the two passes is named with what it is changed from.
	require.NoError(t, os.WriteFile(spec, []byte(strings.Replace(string(text), "threads: 128", "threads: 256", 1)), 0o644))
	p, err = tasks.New(tasks.Options{Root: os.DirFS(edited), Bodies: templates.FS, Profile: profile(t), Device: "metal", Target: runtime.Metal3, Families: []string{"decode"}})
	require.NoError(t, err)
	names = nil
	for _, task := range p.Tasks {
		names = append(names, task.Name)
	}
	require.Contains(t, names, "decode-threads-64-for-256")
	require.Contains(t, names, "decode-threads-64-for-128")

	_, err = tasks.New(tasks.Options{Root: root, Bodies: templates.FS, Profile: profile(t), Target: runtime.Metal3, Families: []string{"decoder"}})
	require.ErrorContains(t, err, "there is no specs/families/decoder.yaml")
}

// No bytes make a plan that panics.
func FuzzLint(f *testing.F) {
	paths, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(f, err)
	for _, path := range paths {
		src, err := os.ReadFile(path)
		require.NoError(f, err)
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		for _, c := range tasks.Lint("plan.yaml", src, programs) {
			require.Positive(t, c.Line, c.Msg)
			require.NotEmpty(t, c.Msg)
		}
	})
}
