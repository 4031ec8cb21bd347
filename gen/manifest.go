package gen

import (
	"encoding/json"
	"strings"

	"github.com/marlingen/marlingen/runtime"
)

// A ManifestKernel is a kernel for readers that are not Go.
type ManifestKernel struct {
	Symbol string             `json:"symbol"`
	Pass   runtime.Pass       `json:"pass"`
	Codec  string             `json:"codec,omitempty"`
	Family string             `json:"family,omitempty"`
	Device string             `json:"device,omitempty"` // the one that it was tuned on
	Kind   runtime.Kind       `json:"kind"`
	Tuples []runtime.BitTuple `json:"tuples,omitempty"`
	Source string             `json:"source"`
	Spec   string             `json:"spec"`
}

// manifestJSON renders manifest.json: the manifest, and every kernel on a line
// of its own, so that a diff shows which came and went.
func manifestJSON(m *Model, manifest runtime.Manifest) ([]byte, error) {
	head, err := json.MarshalIndent(struct {
		Generator string `json:"generator"`
		runtime.Manifest
	}{marker + "; DO NOT EDIT.", manifest}, "", "  ")
	if err != nil {
		return nil, err
	}
	var kernels []string
	for _, k := range m.Table().Kernels {
		line, err := json.Marshal(ManifestKernel{k.Symbol, k.Pass, k.Codec, k.Family, k.Device, k.Kind, k.Tuples, k.Source, k.Line})
		if err != nil {
			return nil, err
		}
		kernels = append(kernels, "    "+string(line))
	}
	return []byte(strings.TrimSuffix(string(head), "\n}") +
		",\n  \"kernels\": [\n" + strings.Join(kernels, ",\n") + "\n  ]\n}\n"), nil
}
