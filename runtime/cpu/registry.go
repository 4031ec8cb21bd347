package cpu

import "github.com/marlingen/marlingen/runtime"

// A key names what a pass is implemented for.
type key struct {
	pass  runtime.Pass
	codec string // empty for a helper
}

// passes holds what this device implements. Families are not in it: they
// differ in how they use a GPU, not in what they compute.
var passes = map[key]*pass{
	{runtime.Route, ""}:            route,
	{runtime.Count, ""}:            count,
	{runtime.Prefix, ""}:           prefix,
	{runtime.Scatter, ""}:          scatter,
	{runtime.Combine, ""}:          combine,
	{runtime.GateUp, trellis.name}: gateUp(trellis),
	{runtime.Down, trellis.name}:   down(trellis),
}

// passOf returns the pass of k, or nil.
func passOf(k *runtime.Kernel) *pass { return passes[key{k.Pass, k.Codec}] }

// The bindings below are written as in specs/passes.yaml.

func constant(name, typ string) param {
	return param{Binding: runtime.Binding{Name: name, Type: typ, Access: runtime.Constant}}
}

func read(name, typ string, size func(runtime.Shape, *routing) uint64) param {
	return param{runtime.Binding{Name: name, Type: typ, Access: runtime.Read}, size}
}

func write(name, typ string, size func(runtime.Shape, *routing) uint64) param {
	return param{runtime.Binding{Name: name, Type: typ, Access: runtime.Write}, size}
}

// words makes a size of 4-byte elements, in as many dimensions as are given.
func words(dims ...func(runtime.Shape, *routing) uint64) func(runtime.Shape, *routing) uint64 {
	return func(s runtime.Shape, r *routing) uint64 {
		size := uint64(4)
		for _, dim := range dims {
			size = product(size, dim(s, r))
		}
		return size
	}
}

// The dimensions of arguments.
func tokens(s runtime.Shape, _ *routing) uint64        { return uint64(s.Tokens) }
func slots(s runtime.Shape, _ *routing) uint64         { return uint64(s.Slots) }
func experts(s runtime.Shape, _ *routing) uint64       { return uint64(s.Experts) }
func expertsAndOne(s runtime.Shape, _ *routing) uint64 { return uint64(s.Experts) + 1 }
func hidden(s runtime.Shape, _ *routing) uint64        { return uint64(s.Hidden) }
func intermediate(s runtime.Shape, _ *routing) uint64  { return uint64(s.Intermediate) }
func rows(s runtime.Shape, _ *routing) uint64          { return uint64(s.Rows) }
func blocks(s runtime.Shape, _ *routing) uint64        { return (uint64(s.Rows) + block - 1) / block }
func routedExperts(_ runtime.Shape, r *routing) uint64 { return r.experts }
func scoresOf(_ runtime.Shape, r *routing) uint64      { return r.experts + uint64(r.Groups) }
