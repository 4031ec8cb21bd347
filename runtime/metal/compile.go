package metal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/marlingen/marlingen/runtime"
)

// compilerFlags make Apple's compiler do what Load asks of Metal, and accept no
// warnings.
var compilerFlags = []string{"-std=metal3.1", "-mmacosx-version-min=14.0", "-fno-fast-math", "-Werror"}

// Compile returns the compiled library of the sources of t's kernels, which
// carries the digest of their manifest. It runs Apple's compiler, and so needs macOS with Xcode.
// The error holds what the compiler says of all sources.
func Compile(ctx context.Context, digest string, t *runtime.Table, sources fs.FS) ([]byte, error) {
	xcrun, err := exec.LookPath("xcrun")
	if err != nil {
		return nil, fmt.Errorf("metal: no Metal compiler here: %w; it is Apple's, and comes with Xcode", err)
	}
	dir, err := os.MkdirTemp("", "marlingen-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	run := func(args ...string) error {
		cmd := exec.CommandContext(ctx, xcrun, append([]string{"-sdk", "macosx"}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("metal: %s: %w\n%s", strings.Join(cmd.Args, " "), err, bytes.TrimSpace(out))
		}
		return nil
	}
	var errs []error
	link := []string{"metallib", "-o", MetallibName}
	compile := func(name string, text []byte) {
		object := strings.TrimSuffix(name, ".metal") + ".air"
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			errs = append(errs, err)
			return
		}
		errs = append(errs, run(append(append([]string{"metal"}, compilerFlags...), "-c", "-o", object, name)...))
		link = append(link, object)
	}
	compile("digest.metal", []byte(DigestSource(digest)))
	for _, name := range t.SourceNames() {
		text, err := fs.ReadFile(sources, name)
		if err != nil {
			return nil, fmt.Errorf("metal: %w", err)
		}
		compile(name, text)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := run(link...); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, MetallibName))
}
