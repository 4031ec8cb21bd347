package generated_test

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/runtime"
)

var (
	entry     = regexp.MustCompile(`(?s)\.entry (\w+)\((.*?)\n\)\n\.reqntid (\d+), 1, 1\n(?:\.minnctapersm (\d+)\n)?\{(.*?)\n\}`)
	parameter = regexp.MustCompile(`\.param (?:\.align \d+ )?\.(u64|b8) .*?_param_\d+(?:\[(\d+)\])?(?:,|$)`)
	generic   = regexp.MustCompile(`\b(?:ld|st|atom)\.(?:volatile\.)?(?:v[24]\.)?[bufs]\d+`)
)

// A kernel is an entry of PTX.
type kernel struct{ parameters, threads, residents, text string }

// entries returns the entries of all PTX by symbol.
func entries(t *testing.T) map[string]kernel {
	all := make(map[string]kernel)
	names, err := fs.Glob(generated.Sources, "*.ptx")
	require.NoError(t, err)
	for _, name := range names {
		text, err := fs.ReadFile(generated.Sources, name)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(text), "// marlingen "+generated.Manifest.Digest+"\n"),
			"%s was compiled from other sources; run go generate ./...", name)
		for _, m := range entry.FindAllStringSubmatch(string(text), -1) {
			require.NotContains(t, all, m[1])
			all[m[1]] = kernel{m[2], m[3], m[4], m[5]}
		}
		require.Equal(t, strings.Count(string(text), ".entry "), len(entry.FindAllString(string(text), -1)), "%s has other entries", name)
	}
	return all
}

// number returns the number that s spells, or 0.
func number(s string) (n int) {
	_, _ = fmt.Sscan(s, &n)
	return n
}

// Every row for NVIDIA's GPUs has an entry whose parameters are its bindings, and nothing else does.
func TestPTXEntries(t *testing.T) {
	all := entries(t)
	sizes := map[string]int{"Shape": binary.Size(runtime.Shape{}), "Routing": binary.Size(runtime.Routing{})}
	for _, k := range generated.CUDA.Kernels {
		e, ok := all[k.Symbol]
		require.True(t, ok, "%s has no entry", k.Symbol)
		delete(all, k.Symbol)
		require.Equal(t, fmt.Sprint(k.Threads), e.threads, k.Symbol)
		require.Equal(t, k.Residents, number(e.residents), k.Symbol)
		ps := parameter.FindAllStringSubmatch(strings.ReplaceAll(e.parameters, "\n", " "), -1)
		require.Len(t, ps, len(k.Bindings), "%s: %s", k.Symbol, e.parameters)
		for i, b := range k.Bindings {
			if b.Access == runtime.Constant {
				require.Equal(t, fmt.Sprint(sizes[b.Type]), ps[i][2], "%s: %s", k.Symbol, b.Name)
			} else {
				require.Equal(t, "u64", ps[i][1], "%s: %s", k.Symbol, b.Name)
			}
		}
	}
	require.Empty(t, all)
}

// Addresses are of known memory, and of none that is local; barriers are there where threadgroup memory is, tensor
// cores where weights are, and each kernel waits for what earlier launches write.
func TestPTXText(t *testing.T) {
	for symbol, e := range entries(t) {
		k := generated.CUDA.Kernel(symbol)
		require.NotNil(t, k)
		if k.ThreadgroupBytes > 0 {
			require.Regexp(t, `bar(rier)?\.sync|bar\.warp\.sync`, e.text, symbol)
			require.Contains(t, e.text, ".shared", symbol)
		}
		if k.Kind != runtime.Helper {
			require.Contains(t, e.text, "mma.sync", symbol)
		}
		require.NotContains(t, e.text, "__local_depot", symbol)
		require.NotRegexp(t, generic, e.text, symbol)
		require.Contains(t, e.text, "griddepcontrol.wait", symbol)
	}
}
