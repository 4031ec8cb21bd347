package mutation_test

import "github.com/marlingen/marlingen/generated"

const (
	passesSpec  = "specs/passes.yaml"
	trellisSpec = "specs/codecs/trellis.yaml"
	decodeSpec  = "specs/families/decode.yaml"
	prefillSpec = "specs/families/prefill4.yaml"
	baseSpec    = "specs/families/base.yaml"
	glmSpec     = "specs/profiles/glm47.yaml"

	frame    = "templates/library.metal.tmpl"
	prelude  = "templates/prelude.metal"
	trellis  = "templates/codecs/trellis.metal"
	decode   = "templates/families/decode.metal"
	prefill  = "templates/families/prefill4.metal"
	gemm     = "templates/families/gemm.metal"
	products = "templates/families/products.metal"
	combine  = "templates/passes/combine.metal"
	count    = "templates/passes/count.metal"
	prefix   = "templates/passes/prefix.metal"
	route    = "templates/passes/route.metal"
	scatter  = "templates/passes/scatter.metal"

	decodeUp      = generated.MoeTrellisSwigluDecode623
	decodeDown    = generated.MoeTrellisSwigluDecode623Down
	decodeAny     = generated.MoeTrellisSwigluDecodeDown
	decodeFairway = generated.MoeTrellisSwigluDecodeFairway
	prefillUp     = generated.MoeTrellisSwigluPrefill4623
	prefillDown   = generated.MoeTrellisSwigluPrefill4623Down
	baseUp        = generated.MoeTrellisSwiglu623
	baseDown      = generated.MoeTrellisSwiglu623Down
	cudaUp        = generated.MoeTrellisSwigluCudaPrefill4623
	cudaDecodeUp  = generated.MoeTrellisSwigluCudaDecode623
	cudaDecode    = generated.MoeTrellisSwigluCudaDecode623Down
	largeDown     = generated.MoeTrellisSwigluLargeBatch623Down
)

// barrier is the usual one, as it stands in templates.
const barrier = "    threadgroup_barrier(mem_flags::mem_threadgroup);\n"

var mutations = []mutation{
	// What the generator refuses.
	{
		what: "a threadgroup of more threads than there can be", file: passesSpec,
		old: "threads: 512", new: "threads: 2048", kernel: generated.MoeRoute,
		level: generator, says: `2048 threads, but target cuda has 1024`,
	},
	{
		what: "threads that are no whole number of simdgroups", file: decodeSpec, nth: 1,
		old: "threads: 128", new: "threads: 100", kernel: decodeUp,
		level: generator, says: `100 threads are no whole number of simdgroups`,
	},
	{
		what: "more threadgroup memory than there is", file: prefillSpec,
		old: "threadgroup_bytes: 2*16*chunk + ", new: "threadgroup_bytes: 8*16*chunk + ", kernel: prefillUp,
		level: generator, says: `34816 bytes of threadgroup memory, but target metal3 has 32768`,
	},
	{
		what: "a grid divided by a constant that there is not", file: decodeSpec,
		old: "hidden/outputs", new: "hidden/output", kernel: decodeDown,
		level: generator, says: `"hidden/output" is not an axis`,
	},
	{
		what: "a tuple of a width that the codec has not", file: trellisSpec,
		old: "  - 6_2_3", new: "  - 6_2_9", kernel: decodeUp,
		level: generator, says: `no 9-bit weights`,
	},
	{
		what: "rows that two families claim", file: prefillSpec,
		old: "rows: 2..16", new: "rows: 2..17", kernel: prefillUp,
		level: generator, says: `17..32 rows of trellis overlap with family prefill4`, at: []string{"rows: 2..17", "rows: 17..32"},
	},
	{
		what: "rows that no family has", file: prefillSpec,
		old: "rows: 2..16", new: "rows: 2..15", kernel: prefillUp,
		level: generator, says: `no family has 16 rows`, at: []string{"rows: 2..15", "rows: 17..32"},
	},
	{
		what: "an access that there is not", file: passesSpec,
		old: "{name: bias,        type: float,   access: read}", new: "{name: bias,        type: float,   access: reed}",
		kernel: generated.MoeRoute,
		level:  generator, says: `"reed" is unknown`,
	},
	{
		what: "a name bound twice", file: passesSpec,
		old: "{name: row,         type: uint,  access: write}", new: "{name: token,       type: uint,  access: write}",
		kernel: generated.MoeScatter,
		level:  generator, says: `token is bound twice`,
	},
	{
		what: "a template that there is not", file: baseSpec,
		old: "template: gemm ", new: "template: gem ", kernel: baseUp,
		level: generator, says: `^there is no templates/families/gem.metal`,
	},
	{
		what: "a mix that does not add up", file: glmSpec,
		old: "{tuple: 6_2_2, experts: 8}", new: "{tuple: 6_2_2, experts: 9}", kernel: decodeUp,
		level: generator, says: `the mix has 65 experts; the shape has 64`, at: []string{"profile: glm47"},
	},
	{
		what: "a frame that asks for what a body has not", file: frame,
		old: "{{.Pass}}<{{.Type}}{{range .Weights}}, {{title", new: "{{.Passes}}<{{.Type}}{{range .Weights}}, {{title", kernel: decodeUp,
		level: generator, says: `can't evaluate field Passes`,
	},

	// What a front end refuses: address spaces.
	{
		what: "a device pointer for a threadgroup one", file: gemm,
		old: "stage_rows<Spec>(scratch.step.x, args, work, first, intermediate, at.index)", new: "stage_rows<Spec>(args.y, args, work, first, intermediate, at.index)", kernel: baseDown,
		level: check, says: `no matching function for call to 'stage_rows'`,
	},
	{
		what: "a thread pointer for a threadgroup one", file: prefill,
		old: "dot_rows(gate, first / 16 + t, output, scratch.gate + 16 * t)", new: "dot_rows(gate, first / 16 + t, output, &g)", kernel: prefillUp,
		level: check, says: `no matching function for call to 'dot_rows'`,
	},
	{
		what: "a constant pointer for a device one", file: route,
		old: "device float* group_scores = scores + experts;", new: "device const float* group_scores = &Greatest;", kernel: generated.MoeRoute,
		level: check, says: `cannot initialize a variable of type 'device float const`,
	},
	{
		what: "a cast from device to threadgroup memory", file: decode,
		old: "*(device const float4*)(x + input)", new: "*(threadgroup const float4*)(x + input)", kernel: decodeDown,
		level: check, says: `converts between mismatching address spaces`,
	},
	{
		what: "a pointer without an address space", file: trellis,
		old: "threadgroup const float4* x, float sum) const", new: "const float4* x, float sum) const", kernel: decodeDown,
		level: check, says: `x is a pointer or reference without an address space`,
	},
	{
		what: "a reference without an address space", file: decode,
		old: "stage(threadgroup Inputs<Spec>& inputs", new: "stage(Inputs<Spec>& inputs", kernel: decodeDown,
		level: check, says: `inputs is a pointer or reference without an address space`,
	},
	{
		what: "a write to what is const", file: decode,
		old: "  float y = 0.0f;\n", new: "  float y = 0.0f;\n  h[at.index] = 0.0f;\n", kernel: decodeDown,
		level: check, says: `read-only variable is not assignable`,
	},
	{
		what: "a write to constant memory", file: frame,
		old: "  if (entry.rows == 0) return;", new: "  shape.items = 0;\n  if (entry.rows == 0) return;", kernel: decodeFairway,
		level: check, says: `cannot assign to variable 'shape'`,
	},
	{
		what: "an output that the spec says is read", file: passesSpec,
		old: "{name: out,   type: float, access: write}", new: "{name: out,   type: float, access: read}", kernel: generated.MoeCombine,
		level: check, says: `cannot assign`, at: []string{"args.out["},
	},

	// Attributes and arguments.
	{
		what: "a misspelt attribute", file: frame,
		old: "kernel void {{.Symbol}}({{params $b}})", nth: 2, new: "kernel void {{.Symbol}}({{params $b}}, uint width [[threads_per_simd_group]])", kernel: generated.MoeCount,
		level: check, says: `parameter width has no attribute`, at: []string{"symbol: moe_"},
	},
	{
		what: "a parameter without an attribute", file: frame,
		old: "kernel void {{.Symbol}}({{params $b}})", nth: 2, new: "kernel void {{.Symbol}}({{params $b}}, uint width)", kernel: generated.MoeCount,
		level: check, says: `parameter width has no attribute`, at: []string{"symbol: moe_"},
	},
	{
		what: "a position that is a float", file: frame,
		old: "kernel void {{.Symbol}}({{params $b}})", nth: 2, new: "kernel void {{.Symbol}}({{params $b}}, float width [[threads_per_simdgroup]])", kernel: generated.MoeCount,
		level: check, says: `\[\[threads_per_simdgroup\]\] is for uint or ushort`, at: []string{"symbol: moe_"},
	},
	{
		what: "a buffer index twice", file: frame,
		old: "kernel void {{.Symbol}}({{params $b}})", nth: 2, new: "kernel void {{.Symbol}}({{params $b}}, device uint* more [[buffer(1)]])", kernel: generated.MoeCount,
		level: check, says: `buffer index 1 is that of .* and of more`, at: []string{"symbol: moe_"},
	},
	{
		what: "a buffer index that is too high", file: frame,
		old: "kernel void {{.Symbol}}({{params $b}})", nth: 2, new: "kernel void {{.Symbol}}({{params $b}}, device uint* more [[buffer(31)]])", kernel: generated.MoeCount,
		level: check, says: `buffer index 31 is above 30`, at: []string{"symbol: moe_"},
	},
	{
		what: "a kernel that returns something", file: frame,
		old: "kernel void {{.Symbol}}({{params $b}})", nth: 2, new: "kernel uint {{.Symbol}}({{params $b}})", kernel: generated.MoeCount,
		level: check, says: `kernels return void`, at: []string{"symbol: moe_"},
	},
	{
		what: "a kernel that nobody marks as one", file: frame,
		old: "[[kernel]] void", new: "void", kernel: decodeUp,
		level: check, says: `_kernel is no kernel`, at: []string{"  - 6_2_3", "- pass: gate_up", "- pass: down"},
	},
	{
		what: "arguments in another order", file: frame,
		old: "Weights{{end}}>(args{{if .ThreadgroupBytes}}, scratch{{end}}, at)", new: "Weights{{end}}>(args{{if .ThreadgroupBytes}}, at{{end}}, scratch)", kernel: decodeUp,
		level: check, says: `no matching function for call to 'gate_up'`,
	},
	{
		what: "too few arguments", file: decode, nth: 1,
		old: "simd_shuffle_xor(y, 16)", new: "simd_shuffle_xor(y)", kernel: decodeDown,
		level: check, says: `no matching function for call to 'simd_shuffle_xor'`,
	},
	{
		what: "a function that there is not", file: route,
		old: "sigmoid(logit)", new: "logistic(logit)", kernel: generated.MoeRoute,
		level: check, says: `undeclared identifier 'logistic'`,
	},
	{
		what: "a flag that there is not", file: scatter,
		old: "mem_flags::mem_threadgroup", new: "mem_flags::mem_shared", kernel: generated.MoeScatter,
		level: check, says: `no member named 'mem_shared'`,
	},
	{
		what: "a vector of another type", file: decode,
		old: "float4 v = 0.0f;", new: "float4 v = half4(0.0h);", kernel: decodeDown,
		level: check, says: `no viable conversion`,
	},
	{
		what: "a missing semicolon", file: count,
		old: "uint n = 0;", new: "uint n = 0", kernel: generated.MoeCount,
		level: check, says: `expected ';'`, at: []string{"uint n = 0", "for (uint i = 0; i < size"},
	},
	{
		what: "a constant that the spec does not give", file: prefill, nth: 1,
		old: "first += Spec::chunk", new: "first += Spec::chunks", kernel: prefillUp,
		level: check, says: `no member named 'chunks'`,
	},

	// Sizes that the spec and the template disagree on.
	{
		what: "less threadgroup memory than the body has", file: decodeSpec,
		old: "threadgroup_bytes: 2*(4*chunk + chunk/4)", new: "threadgroup_bytes: 2*(4*chunk)", kernel: decodeUp,
		level: check, says: `threadgroup_bytes of the spec`, at: []string{"static_assert(sizeof("},
	},
	{
		what: "four times the threads", file: decodeSpec, nth: 2,
		old: "threads: 128", new: "threads: 512", kernel: decodeDown,
		level: generator, says: `threads is 512, which is not among the values to try`, at: []string{"knobs:"},
	},
	{
		what: "half the threads of a block", file: passesSpec, nth: 1,
		old: "threads: 256", new: "threads: 128", kernel: generated.MoeCount,
		level: check, says: `a thread for each assignment`, at: []string{"static_assert("},
	},
	{
		what: "fewer outputs than a row of tiles has", file: decodeSpec, nth: 2,
		old: "constants: {outputs: 16, chunk: 1024}", new: "constants: {outputs: 8, chunk: 1024}", kernel: decodeDown,
		level: check, says: `it owns a row of tiles`, at: []string{"static_assert("},
	},
	{
		what: "more than 32 KiB of threadgroup memory", file: frame,
		old: "  threadgroup {{scratch $b}} scratch;", nth: 1, new: "  threadgroup {{scratch $b}} scratch;\n  threadgroup float more[8192];", kernel: decodeFairway,
		level: check, says: `take more than 32768 bytes`,
	},

	// C++ that Metal has not.
	{
		what: "double", file: decode,
		old: "  float y = 0.0f;\n", new: "  double y = 0.0;\n", kernel: decodeDown,
		level: check, says: `double is not allowed`,
	},
	{
		what: "virtual", file: route,
		old: "  float value;\n", new: "  float value;\n  virtual float key() const { return value; }\n", kernel: generated.MoeRoute,
		level: check, says: `virtual is not allowed`,
	},
	{
		what: "goto", file: combine,
		old: "  float sum = 0.0f;\n", new: "  float sum = 0.0f;\n  if (slots == 0) goto end;\nend:\n", kernel: generated.MoeCombine,
		level: check, says: `goto is not allowed`,
	},
	{
		what: "lambda", file: combine,
		old: "  float sum = 0.0f;\n", new: "  float sum = 0.0f;\n  auto twice = [](float f) { return 2.0f * f; };\n", kernel: generated.MoeCombine,
		level: check, says: `a lambda expression is not allowed`,
	},
	{
		what: "new", file: combine,
		old: "  float sum = 0.0f;\n", new: "  float sum = *new float(0.0f);\n", kernel: generated.MoeCombine,
		level: check, says: `new is not allowed`,
	},
	{
		what: "recursion", file: prelude,
		old: "inline float silu(float x) { return", new: "inline float silu(float x) { return x < -80.0f ? silu(-80.0f) :", kernel: decodeUp,
		level: check, says: `recursion is not allowed in Metal: silu calls silu`,
	},
	{
		what: "throw", file: combine,
		old: "  float sum = 0.0f;\n", new: "  float sum = 0.0f;\n  if (slots == 0) throw 1;\n", kernel: generated.MoeCombine,
		level: check, says: `throw is not allowed`,
	},
	{
		what: "a pointer to a function", file: combine,
		old: "  float sum = 0.0f;\n", new: "  float sum = 0.0f;\n  float (*f)(float) = silu;\n", kernel: generated.MoeCombine,
		level: check, says: `f is a pointer`,
	},
	{
		what: "a variable at program scope", file: route,
		old: "constant constexpr float Greatest", new: "float Greatest", kernel: generated.MoeRoute,
		level: check, says: `a variable at program scope is constant`,
	},
	{
		what: "a threadgroup variable with a value", file: frame,
		old: "  threadgroup {{scratch $b}} scratch;", nth: 1, new: "  threadgroup {{scratch $b}} scratch;\n  threadgroup uint more = 0;", kernel: decodeFairway,
		level: check, says: `a threadgroup variable has no initial value`,
	},

	// Wrong numbers: formulas.
	{
		what: "silu with its sign wrong", file: prelude,
		old: "return x / (1.0f + exp(-x));", new: "return x / (1.0f + exp(x));", kernel: decodeUp,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "the factor of an output forgotten", file: decode,
		old: "(y * w.after(output))", new: "y", kernel: decodeDown,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "the factor of an input forgotten", file: gemm,
		old: "v[q] *= weights.before4(first + k + 4 * q);", new: "v[q] *= 1.0f;", kernel: baseUp,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "the step forgotten", file: trellis,
		old: "- center() * sum) * step(tile, output);", new: "- center() * sum);", kernel: decodeDown,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "the step of another group", file: trellis,
		old: "scales[tile / (Group / Side) * outputs + output]", new: "scales[output]", kernel: prefillUp,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "the center without its half", file: trellis,
		old: "1.5f - 0.5f / float(1u << width())", new: "1.5f", kernel: decodeDown,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "one width for all, where it is read at run time", file: trellis,
		old: "return Bits == 0 ? bits : Bits;", new: "return Bits == 0 ? 4 : Bits;", kernel: decodeAny,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "the weight of an expert forgotten", file: prefill,
		old: "args.prob[work.first + r] * y[r]", new: "y[r]", kernel: prefillDown,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "gate and up swapped", file: decode,
		old: "gate(args.weights, &expert.gate, hidden, intermediate)", new: "gate(args.weights, &expert.up, hidden, intermediate)", kernel: decodeUp,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "inputs and outputs swapped", file: prefill,
		old: "w(args.weights, &expert.down, intermediate, hidden)", new: "w(args.weights, &expert.down, hidden, intermediate)", kernel: prefillDown,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "components in another order", file: trellisSpec,
		old: "  - {name: su,      type: half}\n  - {name: sv,      type: half}\n", new: "  - {name: sv,      type: half}\n  - {name: su,      type: half}\n", kernel: decodeDown,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "positions in another order", file: frame, nth: 1,
		old: "Position{group, index, simd, lane};", new: "Position{group, index, lane, simd};", kernel: decodeDown,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "a sum in half", file: decode,
		old: "  float y = 0.0f;\n", new: "  half y = 0.0h;\n", kernel: decodeDown,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "a sum over slots in half", file: combine,
		old: "float sum = 0.0f;", new: "half sum = 0.0h;", kernel: generated.MoeCombine,
		level: suite, says: `element \d+ is .*, want`,
	},
	{
		what: "slots added in reverse", file: combine,
		old: "for (uint s = 0; s < 8; ++s) sum =", new: "for (uint s = 8; s-- > 0;) sum =", kernel: generated.MoeCombine,
		level: suite, says: `element \d+ is .*, want`,
	},
	{
		what: "ties to the higher index", file: route,
		old: "a.index < b.index", new: "a.index > b.index", kernel: generated.MoeRoute,
		level: suite, says: `token \d+, slot \d+`,
	},
	{
		what: "the bias in the weight of an expert", file: route,
		old: "prob[k] = scores[expert];", new: "prob[k] = scores[expert] + args.bias[expert];", kernel: generated.MoeRoute,
		level: suite, says: `token \d+, slot \d+`,
	},
	{
		what: "weights that are not normalised", file: route,
		old: "args.routing.normalize ? sum + 1e-20f : 1.0f", new: "args.routing.normalize ? 1.0f : 1.0f", kernel: generated.MoeRoute,
		level: suite, says: `token \d+, slot \d+`,
	},
	{
		what: "the shared expert under another number", file: route,
		old: "chosen[k] = experts + k - top_k;", new: "chosen[k] = experts + k;", kernel: generated.MoeRoute,
		level: suite, says: `in the shared slot`,
	},
	{
		what: "the shared expert without its weight", file: route,
		old: "prob[k] = 1.0f;", new: "prob[k] = factor;", kernel: generated.MoeRoute,
		level: suite, says: `in the shared slot`,
	},
	{
		what: "groups by their best choice alone", file: route,
		old: "first + (group > 1 ? second : 0.0f)", new: "first", kernel: generated.MoeRoute,
		level: suite, says: `token \d+, slot \d+`,
	},
	{
		what: "rows of an expert in another order", file: scatter,
		old: "for (uint j = 0; j < at.index; ++j)", new: "for (uint j = at.index + 1; j < min(uint(Spec::block), args.shape.rows - at.group.x * Spec::block); ++j)", kernel: generated.MoeScatter,
		level: suite, says: `element \d+ is .*, want`,
	},
	{
		what: "a transposed tile", file: gemm,
		old: "ulong2(0), true", new: "ulong2(0), false", kernel: baseDown,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "a case that falls through", file: frame,
		old: "(args{{if $b.ThreadgroupBytes}}, scratch{{end}}, at); break;", new: "(args{{if $b.ThreadgroupBytes}}, scratch{{end}}, at);", kernel: decodeFairway,
		level: suite, says: `is NaN, want`,
	},
	{
		what: "strangers that a fairway kernel passes over", file: frame,
		old: "    default: poison_{{$b.Pass}}<{{$b.Type}}>(args, at);", new: "    default: break;", kernel: decodeFairway,
		level: suite, says: `which it has no arm for`,
	},

	// Wrong numbers: indices, loops and grids.
	{
		what: "the last tile dropped", file: decode, nth: 2,
		old: "t < tiles; t +=", new: "t + 1 < tiles; t +=", kernel: decodeDown,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "a tile for two halves of a simdgroup", file: prefill, nth: 2,
		old: "uint t = at.index / 16; t < inputs", new: "uint t = at.index / 32; t < inputs", kernel: prefillDown,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "the sum of another tile", file: decode,
		old: "scratch.inputs.sum[t]", new: "scratch.inputs.sum[t ^ 1]", kernel: decodeDown,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "the row of the work list for the token", file: decode,
		old: "args.x + ulong(args.token[row]) * hidden", new: "args.x + ulong(row) * hidden", kernel: decodeUp,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "half of a grid", file: passesSpec, nth: 1,
		old: "grid: [rows/block, one, one]", new: "grid: [rows/512, one, one]", kernel: generated.MoeCount,
		level: suite, says: `element \d+ is .*, want`,
	},
	{
		what: "the axes of a grid swapped", file: passesSpec,
		old: "grid: [hidden/columns, tokens, one]", new: "grid: [tokens, hidden/columns, one]", kernel: generated.MoeCombine,
		level: suite, says: `element \d+ is .*, want`,
	},
	{
		what: "the grid of another pass", file: decodeSpec,
		old: "grid: [items, hidden/outputs, one]", new: "grid: [items, intermediate/outputs, one]", kernel: decodeDown,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "fewer simdgroups than work is shared by", file: passesSpec,
		old: "threads: 512", new: "threads: 256", kernel: generated.MoeRoute,
		level: suite, says: `token \d+, slot \d+`,
	},
	{
		what: "a row of the next expert written", file: prefill, nth: 2,
		old: "if (r < work.rows) args.", new: "if (r <= work.rows) args.", kernel: prefillDown,
		level: suite, says: `column \d+ is .*, want`,
	},

	// Memory out of bounds.
	{
		what: "columns beyond the last one written", file: combine,
		old: "  if (i >= hidden) return;\n", new: "", kernel: generated.MoeCombine,
		level: suite, says: `bounds`, checker: `bounds`, at: []string{"args.out[", "= args.y[", "sum + y[s]"},
	},
	{
		what: "outputs beyond the last one written", file: gemm,
		old: "    if (output + o >= hidden) continue;\n", new: "", kernel: baseDown,
		level: suite, says: `is NaN, want`, checker: `race: write of y`, at: []string{"args.y["},
	},
	{
		what: "padding taken for work", file: decode, nth: 2,
		old: "  if (args.work[at.group.x].rows == 0) return;\n", new: "", kernel: decodeDown,
		level: suite, says: `fault`, checker: `bounds: read .* outside all arguments and variables`, at: []string{"expert", "at->indices"},
	},
	{
		what: "padding taken for work by a frame", file: frame,
		old: "  if (entry.rows == 0) return;\n", new: "", kernel: decodeFairway,
		level: suite, says: `fault`, checker: `bounds: read .* outside all arguments and variables`,
	},
	{
		what: "assignments beyond the last one read", file: count,
		old: "if (at.index < size) scratch", new: "scratch", kernel: generated.MoeCount,
		level: suite, says: `bounds`,
	},
	{
		what: "inputs beyond the last one read", file: gemm, nth: 1,
		old: "if (r < work.rows && first + k < inputs) {", new: "if (r < work.rows) {", kernel: baseUp,
		level: suite, says: `is NaN, want`,
	},
	{
		what: "threadgroup memory beyond an array read", file: decode, nth: 2,
		old: "for (uint s = 0; s < Spec::threads / 32; ++s)", new: "for (uint s = 0; s <= Spec::threads / 32; ++s)", kernel: decodeDown,
		level: checker, says: `bounds`, at: []string{"scratch.partial[s]", "s <= Spec"},
	},
	{
		what: "threadgroup memory beyond an array written", file: count,
		old: "= args.chosen[first + at.index];", new: "= args.chosen[first + at.index];\n  if (at.index == 0) scratch.expert[size] = experts;", kernel: generated.MoeCount,
		level: checker, says: `bounds|undefined`,
	},
	{
		what: "an element of threadgroup memory missed", file: scatter,
		old: "scratch.expert[at.index] = args.chosen[i];", new: "scratch.expert[at.index + 1] = args.chosen[i];", kernel: generated.MoeScatter,
		level: suite, says: `fault`, checker: `uninitialised: read of scratch`, at: []string{"scratch.expert[at.index", "args.base["},
	},
	{
		what: "a local array overrun", file: trellis,
		old: "for (uint q = 0; q < 4; ++q) w[q] =", new: "for (uint q = 0; q <= 4; ++q) w[q] =", kernel: prefillDown,
		level: suite, says: `fault`, at: []string{"args.y["},
	},
	{
		what: "a local array read beyond its end", file: prefill,
		old: "for (uint q = 0; q < 4; ++q) {\n    s +=", new: "for (uint q = 0; q <= 4; ++q) {\n    s +=", kernel: prefillDown,
		level: suite, says: `column`, checker: `undefined: an index out of the bounds`, at: []string{"s += w[q]"},
	},
	{
		what: "a write to an input, its const cast away", file: decode,
		old: "  float y = 0.0f;\n", new: "  float y = 0.0f;\n  ((device float*)h)[0] = h[0] + 0.0f;\n", kernel: decodeDown,
		level: checker, says: `access: write to h`,
	},
	{
		what: "a vector at an odd address", file: trellis,
		old: "Bits == 0 || Bits % 2 == 1, ushort", new: "Bits == 0, ushort", kernel: decodeDown,
		level: checker, says: `undefined: .* not aligned`, // Clang makes one of checks that look alike: the place is that of one of them.
		at: []string{"*(device const Piece*)", "- center() * sum) * step("},
	},

	// Memory that nobody wrote.
	{
		what: "a sum without a beginning", file: decode,
		old: "  float y = 0.0f;\n", new: "  float y;\n", kernel: decodeDown,
		level: check, says: `uninitialized`, at: []string{"float y;", "y += w.dot("},
	},
	{
		what: "a partial sum that nobody wrote", file: decode,
		old: "if (at.lane < 16) scratch.partial", new: "if (at.lane < 15) scratch.partial", kernel: decodeDown,
		level: suite, says: `is NaN, want`, checker: `uninitialised`, at: []string{"y += scratch.partial"},
	},
	{
		what: "weights that there are not left as they were", file: gemm,
		old: "float4 v[4] = {};", new: "float4 v[4];", kernel: baseDown,
		level: suite, says: `is NaN, want`,
	},
	{
		what: "rows that there are not left as they were", file: gemm,
		old: "    *(threadgroup float4*)(x + r * Spec::pitch + k) = v;", new: "    if (r < work.rows) *(threadgroup float4*)(x + r * Spec::pitch + k) = v;", kernel: baseDown,
		level: checker, says: `uninitialised`, at: []string{"simdgroup_load(x[i]"},
	},

	// Barriers.
	{
		what: "no barrier before inputs are replaced", file: decode, nth: 3,
		old: barrier, new: "", kernel: decodeDown,
		level: suite, says: `column \d+ is .*, want`, checker: `race`, at: []string{"inputs.x[i] = v", "levels(row, q) * x[q]", "sum[t]", "inputs.sum[i / 4] = sum"},
	},
	{
		what: "no barrier after inputs are staged", file: decode, nth: 2,
		old: barrier, new: "", kernel: decodeUp,
		level: suite, says: `column \d+ is .*, want`, checker: `race`, at: []string{"inputs.x[i] = v", "levels(row, q) * x[q]", "sum[t]", "inputs.sum[i / 4] = sum"},
	},
	{
		what: "no barrier before rows are replaced", file: prefill, nth: 3,
		old: barrier, new: "", kernel: prefillDown,
		level: suite, says: `column \d+ is .*, want`, checker: `race`, at: []string{"scratch.h[i] =", "* x[4 * q"},
	},
	{
		what: "no barrier after rows are staged", file: prefill, nth: 2,
		old: barrier, new: "", kernel: prefillUp,
		level: suite, says: `is NaN, want`, checker: `race|uninitialised`, at: []string{"scratch.gate[i] =", "scratch.up[i] =", "* x[4 * q"},
	},
	{
		what: "no barrier before simdgroups are added up", file: prefill, nth: 6,
		old: "  threadgroup_barrier(mem_flags::mem_threadgroup);\n", new: "", kernel: prefillDown,
		level: suite, says: `is NaN, want`, checker: `race|uninitialised`, at: []string{"scratch.partial["},
	},
	{
		what: "no barrier after a block is staged", file: count,
		old: "  threadgroup_barrier(mem_flags::mem_threadgroup);\n", new: "", kernel: generated.MoeCount,
		level: suite, says: `element \d+ is .*, want`, checker: `race|uninitialised`, at: []string{"scratch.expert["},
	},
	{
		what: "no barrier before a block is read", file: scatter,
		old: "  threadgroup_barrier(mem_flags::mem_threadgroup);\n", new: "", kernel: generated.MoeScatter,
		level: suite, says: `element \d+ is .*, want`, checker: `race`, at: []string{"scratch.expert["},
	},
	{
		what: "no barrier before sums of simdgroups are read", file: prefix, nth: 1,
		old: barrier, new: "", kernel: generated.MoePrefix,
		level: suite, says: `element \d+ is .*, want`, checker: `race|uninitialised`, at: []string{"scratch.rows["},
	},
	{
		what: "no barrier before sums of simdgroups are replaced", file: prefix, nth: 2,
		old: barrier, new: "", kernel: generated.MoePrefix,
		level: checker, says: `race`, at: []string{"scratch.rows["},
	},
	{
		what: "no barrier before a step is multiplied", file: gemm, nth: 3,
		old: barrier, new: "", kernel: baseDown,
		level: suite, says: `is NaN, want`, checker: `race|uninitialised`, at: []string{"simdgroup_load(", "*(threadgroup float4*)"},
	},
	{
		what: "no barrier before a step is replaced", file: gemm, nth: 2,
		old: barrier, new: "", kernel: baseUp,
		level: suite, says: `column \d+ is .*, want`, checker: `race`, at: []string{"simdgroup_load(", "*(threadgroup float4*)", "simdgroup_store("},
	},
	{
		what: "no barrier before products are read", file: gemm, nth: 2,
		old: "  store(quarter, scratch);\n  threadgroup_barrier(mem_flags::mem_threadgroup);\n", new: "  store(quarter, scratch);\n", kernel: largeDown,
		level: suite, says: `column \d+ is .*, want`, checker: `race`, at: []string{"scratch.product", "simdgroup_store("},
	},
	{
		what: "no barrier between scores and choices", file: route,
		old: "  threadgroup_barrier(mem_flags::mem_device);\n", new: "", kernel: generated.MoeRoute,
		level: suite, says: `token \d+, slot \d+`, checker: `race`, at: []string{"scores["},
	},
	{
		what: "no barrier between groups' scores and choices", file: route,
		old: "    simdgroup_barrier(mem_flags::mem_device);\n", new: "", kernel: generated.MoeRoute,
		level: checker, says: `race`, at: []string{"group_scores["},
	},
	{
		what: "a barrier that orders no memory", file: count,
		old: "mem_flags::mem_threadgroup", new: "mem_flags::mem_none", kernel: generated.MoeCount,
		level: checker, says: `race`, at: []string{"scratch.expert["},
	},
	{
		what: "a barrier that orders other memory", file: route,
		old: "threadgroup_barrier(mem_flags::mem_device)", new: "threadgroup_barrier(mem_flags::mem_threadgroup)", kernel: generated.MoeRoute,
		level: checker, says: `race`, at: []string{"scores["},
	},
	{
		what: "a barrier of device memory for threadgroup memory", file: prefill, nth: 2,
		old: "    threadgroup_barrier(mem_flags::mem_threadgroup);\n    for (uint t", new: "    threadgroup_barrier(mem_flags::mem_device);\n    for (uint t", kernel: prefillDown,
		level: checker, says: `race`, at: []string{"scratch.h[i] =", "* x[4 * q"},
	},
	{
		what: "a barrier of a simdgroup for one of all", file: decode, nth: 2,
		old: "  threadgroup_barrier(mem_flags::mem_threadgroup);\n  if (at.index", new: "  simdgroup_barrier(mem_flags::mem_threadgroup);\n  if (at.index", kernel: decodeDown,
		level: suite, says: `is NaN, want`, checker: `race`, at: []string{"scratch.partial["},
	},
	{
		what: "a barrier of a simdgroup that orders no memory", file: route,
		old: "simdgroup_barrier(mem_flags::mem_device)", new: "simdgroup_barrier(mem_flags::mem_none)", kernel: generated.MoeRoute,
		level: checker, says: `race`, at: []string{"group_scores["},
	},
	{
		what: "a barrier that some threads pass by", file: decode, nth: 2,
		old: "  threadgroup_barrier(mem_flags::mem_threadgroup);\n  if (at.index", new: "  if (at.index < 64) threadgroup_barrier(mem_flags::mem_threadgroup);\n  if (at.index", kernel: decodeDown,
		level: suite, says: `barrier`,
	},
	{
		what: "a return before a barrier", file: scatter,
		old: "  if (mine) scratch", new: "  if (!mine) return;\n  if (mine) scratch", kernel: generated.MoeScatter,
		level: suite, says: `barrier`, at: []string{"threadgroup_barrier("},
	},
	{
		what: "a sum of a simdgroup by one lane", file: route,
		old: "const float logit = simd_sum(s.x + s.y + s.z + s.w);\n    if (at.lane == 0) scores[e] = sigmoid(logit);", new: "if (at.lane == 0) scores[e] = sigmoid(simd_sum(s.x + s.y + s.z + s.w));", kernel: generated.MoeRoute,
		level: suite, says: `divergence`, at: []string{"sigmoid(simd_sum(", "threadgroup_barrier("},
	},
	{
		what: "a shuffle that some lanes pass by", file: decode,
		old: "  y += simd_shuffle_xor(y, 16);", new: "  if (at.lane < 16) y += simd_shuffle_xor(y, 16);", kernel: decodeDown,
		level: suite, says: `divergence`, at: []string{"y += simd_shuffle_xor(y, 16)", "threadgroup_barrier("},
	},

	// What else is undefined, or never ends.
	{
		what: "all threads write one element", file: prefix,
		old: "  if (at.index == 0) args.offsets[experts] = next;", new: "  args.offsets[experts] = next;", kernel: generated.MoePrefix,
		level: checker, says: `race`,
	},
	{
		what: "all threadgroups write the same elements", file: passesSpec,
		old: "grid: [one, one, one]", new: "grid: [tokens, one, one]", kernel: generated.MoePrefix,
		level: checker, says: `race`, at: []string{"args.offsets[", "args.base["},
	},
	{
		what: "threadgroups that write over each other", file: combine,
		old: "at.group.x * Spec::columns + at.index", new: "at.index", kernel: generated.MoeCombine,
		level: suite, says: `element \d+ is .*, want`, checker: `race`, at: []string{"args.out["},
	},
	{
		what: "a division by zero", file: scatter,
		old: "i / args.shape.slots", new: "i / args.shape.items", kernel: generated.MoeScatter,
		level: suite, says: `undefined: division by zero`,
	},
	{
		what: "a shift by all bits", file: trellis,
		old: "at == 0   ? row.x\n                       : at < 64", new: "at < 64", kernel: decodeUp,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "an endless loop", file: decode, nth: 2,
		old: "t += Spec::threads / 16", new: "t += Spec::threads / 256", kernel: decodeDown,
		level: suite, says: `did not end within`,
	},

	// What products of halves get wrong.
	{
		what: "the lesser part of an input left out", file: products,
		old: "halves(v.x - float(h0.x), v.y - float(h0.y))", new: "halves(0.0f, 0.0f)", kernel: cudaUp,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "indices that are not relative to their mean", file: products,
		old: "w.middle() * total", new: "0.0f * total", kernel: cudaUp,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "the second half of a pair in another place", file: trellis,
		old: "- pair_shift(p) - 16)", new: "- pair_shift(p) - 15)", kernel: cudaUp,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "a line of simdgroups that is not added", file: products,
		old: "l = 1; l < Spec::splits", new: "l = 2; l < Spec::splits", kernel: cudaDecode,
		level: suite, says: `column \d+ is .*, want`,
	},
	{
		what: "no barrier before lines are added", file: products,
		old: "  threadgroup_barrier(mem_flags::mem_threadgroup);\n}\n\n// Returns the sum", new: "}\n\n// Returns the sum", kernel: cudaDecode,
		level: suite, says: `column \d+ is .*, want`, checker: `race|uninitialised`, at: []string{"partial.sums"},
	},
	{
		what: "no barrier before experts are read", file: products,
		old: "  threadgroup_barrier(mem_flags::mem_threadgroup);\n}\n\n// Waits, and", new: "}\n\n// Waits, and", kernel: cudaDecodeUp,
		level: suite, says: `column \d+ is .*, want`, checker: `race|uninitialised`, at: []string{"at->"},
	},
	{
		what: "the first expert copied for an entry of another", file: products,
		old: "args.experts + work.expert, 1, at", new: "args.experts, 1, at", kernel: cudaDecodeUp,
		level: suite, says: `column \d+ is .*, want`,
	},
}
