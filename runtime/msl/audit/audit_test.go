package audit_test

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/marlingen/marlingen/runtime/msl"
	"github.com/marlingen/marlingen/runtime/msl/audit"
)

var update = flag.Bool("update", false, "write docs/msl-coverage.md")

const document = "../../../docs/msl-coverage.md"

// skip skips a test for want of a compiler, unless MARLINGEN_REQUIRE_CLANG is
// set; err is what msl says.
func skip(t *testing.T, err error) {
	t.Helper()
	if errors.As(err, new(*msl.ToolchainError)) && os.Getenv("MARLINGEN_REQUIRE_CLANG") == "" {
		t.Skip(err)
	}
	require.NoError(t, err)
}

func TestCoverage(t *testing.T) {
	sections, err := audit.Load()
	require.NoError(t, err)
	rows, err := audit.Measure(t.Context(), sections)
	skip(t, err)

	counts := make(map[audit.Class]int)
	for _, r := range rows {
		counts[r.Class]++
	}
	t.Log(counts)
	var b bytes.Buffer
	require.NoError(t, audit.Markdown(&b, rows))
	if *update {
		require.NoError(t, os.WriteFile(filepath.FromSlash(document), b.Bytes(), 0o644))
		return
	}
	if v := clang(t); !strings.HasPrefix(v, "19.") {
		t.Logf("not compared with the document, whose words are those of clang 19: this is %s", v)
		return
	}
	have, err := os.ReadFile(filepath.FromSlash(document))
	require.NoError(t, err)
	assert.Equal(t, b.String(), string(bytes.ReplaceAll(have, []byte("\r\n"), []byte("\n"))), "write it with: go test ./runtime/msl/audit -update")
}

// clang returns the compiler's version, or one that the document knows where
// only the device could tell.
func clang(t *testing.T) string {
	t.Helper()
	device, err := msl.Open(t.Context(), msl.Options{})
	if err != nil {
		return "19.?"
	}
	defer device.Close()
	return strings.TrimPrefix(device.Info().Driver, "clang ")
}

// What is in no specification must not compile, whatever it resembles.
func TestInventedFunctions(t *testing.T) {
	sections, err := audit.Load()
	require.NoError(t, err)
	var invented []audit.Section
	for _, s := range sections {
		if len(s.Functions) == 0 {
			continue
		}
		i := audit.Section{Section: s.Section, Apple: audit.Rejects, Types: s.Types[:1]}
		for _, f := range s.Functions {
			i.Functions = append(i.Functions, strings.Replace(f, "(", "_of_nobody(", 1))
		}
		invented = append(invented, i)
	}
	rows, err := audit.Measure(t.Context(), invented)
	skip(t, err)
	for _, r := range rows {
		assert.Equal(t, audit.Rejects, r.Here, r.Name)
		assert.Regexp(t, "_of_nobody'", r.Words, r.Name)
	}
}
