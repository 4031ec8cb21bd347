package tune

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing/fstest"

	"github.com/marlingen/marlingen/gen"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/msl"
)

// compile returns the sources of a candidate, in the form that the device loads:
// its Metal text, and the PTX of that for cuda.
func (t *tuner) compile(ctx context.Context, l *gen.Library, table *runtime.Table) (fs.FS, error) {
	name, text, err := l.Text(t.Templates)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(text)
	key := hex.EncodeToString(digest[:])
	if s, ok := t.sources[key]; ok {
		return s, nil
	}
	m := runtime.Manifest{Specs: "of a candidate", Sources: []runtime.Source{{Name: name, SHA256: key}}}
	m.Digest = m.Sum()
	manifest, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	sources := fstest.MapFS{name: {Data: text}, "manifest.json": {Data: manifest}}
	if t.Target == runtime.CUDA {
		ptx, err := msl.PTX(ctx, name, string(text), table.Kernels)
		if refused := (*msl.PTXError)(nil); errors.As(err, &refused) {
			return nil, &Refused{fmt.Errorf("the compiler: %w", refused)}
		}
		if err != nil {
			return nil, err
		}
		head := fmt.Sprintf("// marlingen %s\n", m.Digest)
		sources[strings.TrimSuffix(name, ".metal")+".ptx"] = &fstest.MapFile{Data: append([]byte(head), ptx...)}
	}
	t.sources[key] = sources
	return sources, nil
}
