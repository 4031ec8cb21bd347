package msl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	goruntime "runtime"
	"strconv"
	"strings"
)

// A ToolchainError says that there is no compiler that can read Metal, and how
// to get one.
type ToolchainError struct {
	Tried []string // what was tried, and why it would not do
}

func (e *ToolchainError) Error() string {
	return fmt.Sprintf("msl: no clang that can compile Metal (%s); install one with: %s", strings.Join(e.Tried, "; "), InstallCommand())
}

// InstallCommand returns the command that installs a compiler that will do.
func InstallCommand() string {
	if goruntime.GOOS == "darwin" {
		return "brew install llvm"
	}
	return "apt install clang-19"
}

// A toolchain is a clang that can compile Metal.
type toolchain struct {
	path    string
	version string
}

// oldest is the first version of clang that can compute with bfloat.
const oldest = 17

// findToolchain returns the clang of MARLINGEN_CLANG or, without it, the first
// in PATH that will do.
func findToolchain(ctx context.Context) (*toolchain, error) {
	names := []string{"clang-19", "clang", "clang-20", "clang-18", "clang-17"}
	if goruntime.GOOS == "darwin" {
		names = append(names, "/opt/homebrew/opt/llvm/bin/clang", "/usr/local/opt/llvm/bin/clang")
	}
	if name := os.Getenv("MARLINGEN_CLANG"); name != "" {
		names = []string{name}
	}
	missing := &ToolchainError{}
	for _, name := range names {
		t, err := tryToolchain(ctx, name)
		if err == nil {
			return t, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if errors.Is(err, exec.ErrNotFound) {
			err = errors.New("not found")
		}
		missing.Tried = append(missing.Tried, fmt.Sprintf("%s: %v", name, err))
	}
	return nil, missing
}

var versionPattern = regexp.MustCompile(`version (\d+)\.\d+(\.\d+)?`)

func tryToolchain(ctx context.Context, name string) (*toolchain, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return nil, err
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return nil, err
	}
	first, _, _ := strings.Cut(string(out), "\n")
	m := versionPattern.FindStringSubmatch(first)
	if m == nil {
		return nil, fmt.Errorf("no version in %q", first)
	}
	if major, _ := strconv.Atoi(m[1]); major < oldest {
		return nil, fmt.Errorf("version %d, and the first that will do is %d", major, oldest)
	}
	if strings.HasPrefix(first, "Apple") {
		return nil, errors.New("that of Apple does not compile C++ for OpenCL for other hosts")
	}
	return &toolchain{path, strings.TrimPrefix(m[0], "version ")}, nil
}
