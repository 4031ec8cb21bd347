package result

import (
	"fmt"
	"io"
	"strings"

	"golang.org/x/perf/benchfmt"
)

// units say of what is written in Go's format whether more of it is better.
var units = []struct{ unit, better string }{{"ns/op", "lower"}, {"GB/s", "higher"}, {"tokens/s", "higher"}}

// WriteGo writes d in the format of Go's benchmarks, a line for each round of
// each cell, which benchstat compares. Labels are in the names, key=value.
func (d *Document) WriteGo(w io.Writer) error {
	out := benchfmt.NewWriter(w)
	for _, u := range units {
		if err := out.Write(&benchfmt.UnitMetadata{
			UnitMetadataKey: benchfmt.UnitMetadataKey{Unit: u.unit, Key: "better"}, OrigUnit: u.unit, Value: u.better,
		}); err != nil {
			return err
		}
	}
	var config []benchfmt.Config
	for _, c := range [][2]string{
		{"goos", d.Machine.OS}, {"goarch", d.Machine.Arch}, {"cpu", d.Machine.Processor},
		{"device", d.Device.Kind}, {"device-name", d.Device.Name}, {"driver", d.Device.Driver},
		{"level", string(d.Level)}, {"manifest", d.Digest}, {"commit", d.Commit}, {"run", d.ID},
	} {
		if c[1] != "" {
			config = append(config, benchfmt.Config{Key: c[0], Value: []byte(c[1]), File: true})
		}
	}
	for _, c := range d.Cells {
		of := strings.TrimPrefix(c.Name, d.Benchmark+"/")
		name := fmt.Sprintf("%s/%s-%d", title(d.Benchmark), strings.ReplaceAll(of, ":", "="), d.Machine.Processors)
		for _, ms := range c.RoundsMS {
			r := &benchfmt.Result{Config: config, Name: benchfmt.Name(name), Iters: 1, Values: []benchfmt.Value{{Value: ms * 1e6, Unit: "ns/op"}}}
			if bytes := c.Metrics["bytes"]; bytes > 0 {
				r.Values = append(r.Values, benchfmt.Value{Value: bytes / ms / 1e6, Unit: "GB/s"})
			}
			if tokens := c.Metrics["tokens"]; tokens > 0 {
				r.Values = append(r.Values, benchfmt.Value{Value: tokens / ms * 1e3, Unit: "tokens/s"})
			}
			if err := out.Write(r); err != nil {
				return err
			}
		}
	}
	return nil
}

// title returns a word as the name of a benchmark has it.
func title(word string) string {
	if word == "" {
		return ""
	}
	return strings.ToUpper(word[:1]) + word[1:]
}
