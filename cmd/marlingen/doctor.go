package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	goruntime "runtime"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/klauspost/cpuid/v2"

	"github.com/marlingen/marlingen/cmd/marlingen/internal/host"
	"github.com/marlingen/marlingen/generated"
	"github.com/marlingen/marlingen/moe/bench"
	"github.com/marlingen/marlingen/runtime"
	"github.com/marlingen/marlingen/runtime/cpu"
	"github.com/marlingen/marlingen/runtime/cuda"
	"github.com/marlingen/marlingen/runtime/metal"
	"github.com/marlingen/marlingen/runtime/msl"
)

type doctorCmd struct {
	JSON bool `help:"Write JSON."`
}

// Help is shown by marlingen doctor --help.
func (*doctorCmd) Help() string {
	return `Shows what this machine offers: processors and their instructions, memory, devices and compilers;
what is missing, what for, and the command that installs it on Debian or macOS. It installs nothing,
and exits with 0 whatever is missing.`
}

// A checkup is the JSON form of what doctor found.
type checkup struct {
	System  checkupSystem   `json:"system"`
	Devices []checkupDevice `json:"devices"`
	Tools   []checkupTool   `json:"tools"`
}

type checkupSystem struct {
	OS         string      `json:"os"`
	Arch       string      `json:"arch"`
	Go         string      `json:"go"` // that the command was built with
	Processor  string      `json:"processor"`
	Cores      int         `json:"cores,omitempty"` // physical, if they are known
	Processors int         `json:"processors"`      // that the process may run on
	GOMAXPROCS int         `json:"gomaxprocs"`
	SIMD       []string    `json:"simd"`
	Memory     host.Memory `json:"memory"`
	NVIDIA     host.NVIDIA `json:"nvidia"`
}

type checkupDevice struct {
	Kind    string `json:"kind"`
	OK      bool   `json:"ok"`
	Name    string `json:"name,omitempty"`
	Driver  string `json:"driver,omitempty"`
	Why     string `json:"why,omitempty"`     // it is not ok
	Install string `json:"install,omitempty"` // a command
}

type checkupTool struct {
	Name    string `json:"name"`
	OK      bool   `json:"ok"`
	Version string `json:"version,omitempty"`
	For     string `json:"for"`
	Install string `json:"install,omitempty"` // a command, if it is missing
}

// A deviceProbe asks for the devices of a kind.
type deviceProbe struct {
	kind  string
	probe func(context.Context) ([]runtime.Info, error)
}

// deviceProbes are those of all kinds, a line each.
var deviceProbes = []deviceProbe{
	{"cpu", one(func(context.Context) (runtime.Device, error) { return cpu.New(cpu.Options{Precision: cpu.Fast}), nil })},
	{"cuda", gpus},
	{"metal", one(func(context.Context) (runtime.Device, error) {
		return metal.Open(metal.Options{Digest: generated.Manifest.Digest})
	})},
	{"msl", one(func(ctx context.Context) (runtime.Device, error) { return msl.Open(ctx, msl.Options{}) })},
}

// gpus is the probe of NVIDIA GPUs.
func gpus(context.Context) (infos []runtime.Info, err error) {
	n, err := cuda.Devices(cuda.Options{})
	for i := range n {
		d, failure := cuda.Open(cuda.Options{Index: i})
		if failure != nil {
			err = errors.Join(err, fmt.Errorf("cuda:%d: %w", i, failure))
			continue
		}
		infos = append(infos, d.Info())
		err = errors.Join(err, d.Close())
	}
	return infos, err
}

// one is the probe of a kind of which a machine has one device at most.
func one(open func(context.Context) (runtime.Device, error)) func(context.Context) ([]runtime.Info, error) {
	return func(ctx context.Context) ([]runtime.Info, error) {
		d, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return []runtime.Info{d.Info()}, d.Close()
	}
}

// A toolProbe looks for a program.
type toolProbe struct {
	name    string
	args    []string // that make it tell its version
	use     string
	install map[string]string // commands, by system; a system that is not there has no use for it
}

var toolProbes = []toolProbe{
	{"go", []string{"version"}, "building, regenerating", map[string]string{
		"linux":  fmt.Sprintf("curl -fsSL https://go.dev/dl/%s.linux-%s.tar.gz | sudo tar -C /usr/local -xz", goVersion(), goruntime.GOARCH),
		"darwin": "brew install go",
	}},
	{"git", []string{"--version"}, "results that name their commit", map[string]string{"linux": "apt install git", "darwin": "xcode-select --install"}},
	{"make", []string{"--version"}, "what the Makefile does", map[string]string{"linux": "apt install make", "darwin": "xcode-select --install"}},
	{"cc", []string{"--version"}, "make race", map[string]string{"linux": "apt install gcc libc6-dev", "darwin": "xcode-select --install"}},
	{"qemu-aarch64-static", []string{"--version"}, "make arm64", map[string]string{"linux": "apt install qemu-user-static"}},
	{"xcrun", []string{"metal", "--version"}, "Apple's Metal compiler", map[string]string{
		"darwin": "xcodebuild -downloadComponent MetalToolchain # with Xcode of the App Store",
	}},
}

// goVersion returns the version of Go that the command was built with, as it
// can be downloaded.
func goVersion() string {
	version, _, _ := strings.Cut(goruntime.Version(), " ")
	return version
}

func (c *doctorCmd) Run(ctx context.Context, a *app) error {
	found := checkup{System: examine()}
	for _, p := range deviceProbes {
		found.Devices = append(found.Devices, p.ask(ctx)...)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	for i := range found.Devices {
		if d := &found.Devices[i]; d.Kind == "cuda" && !d.OK && found.System.NVIDIA.Undriven > 0 {
			d.Install = host.InstallNVIDIA
		}
	}
	found.Tools = append(found.Tools, clang(ctx))
	for _, p := range toolProbes {
		if install, ok := p.install[goruntime.GOOS]; ok && (p.name != "qemu-aarch64-static" || goruntime.GOARCH != "arm64") {
			found.Tools = append(found.Tools, p.look(ctx, install))
		}
	}
	if c.JSON {
		return a.json(found)
	}
	a.checkup(found)
	return nil
}

// examine describes the machine.
func examine() checkupSystem {
	root := os.DirFS("/")
	s := checkupSystem{
		OS: goruntime.GOOS, Arch: goruntime.GOARCH, Go: goruntime.Version(),
		Processor: bench.ThisMachine().Processor, Cores: cpuid.CPU.PhysicalCores,
		Processors: goruntime.NumCPU(), GOMAXPROCS: goruntime.GOMAXPROCS(0), SIMD: []string{},
		Memory: host.ReadMemory(root), NVIDIA: host.ReadNVIDIA(root),
	}
	for _, f := range []cpuid.FeatureID{
		cpuid.AVX2, cpuid.FMA3, cpuid.F16C, cpuid.AVXVNNI, cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512VL, cpuid.AVX512VBMI, cpuid.AVX512VNNI,
		cpuid.AMXINT8, cpuid.ASIMD, cpuid.ASIMDHP, cpuid.ASIMDDP, cpuid.SVE,
	} {
		if cpuid.CPU.Has(f) {
			s.SIMD = append(s.SIMD, f.String())
		}
	}
	return s
}

// ask returns the devices of a kind, or why there is none.
func (p deviceProbe) ask(ctx context.Context) (ds []checkupDevice) {
	infos, err := p.probe(ctx)
	for _, info := range infos {
		ds = append(ds, checkupDevice{Kind: p.kind, OK: true, Name: info.Name, Driver: info.Driver})
	}
	if err != nil {
		d := checkupDevice{Kind: p.kind, Why: err.Error()}
		if errors.As(err, new(*msl.ToolchainError)) {
			d.Why, d.Install = "no clang that can compile Metal", msl.InstallCommand()
		}
		ds = append(ds, d)
	}
	return ds
}

// clang says whether there is one that reads Metal.
func clang(ctx context.Context) checkupTool {
	t := checkupTool{Name: "clang", For: "check-metal, prove and the msl device: 17 or newer"}
	if _, err := msl.Check(ctx, "empty.metal", ""); err != nil {
		t.Install = msl.InstallCommand()
		return t
	}
	t.OK = true
	return t
}

// look looks for the program, and asks it for its version.
func (p toolProbe) look(ctx context.Context, install string) checkupTool {
	t := checkupTool{Name: p.name, For: p.use, Install: install}
	path, err := exec.LookPath(p.name)
	if err != nil {
		return t
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path, p.args...).Output()
	if err != nil {
		return t
	}
	t.OK, t.Install = true, ""
	t.Version, _, _ = strings.Cut(strings.TrimSpace(string(out)), "\n")
	return t
}

// checkup writes what was found for people.
func (a *app) checkup(c checkup) {
	s := c.System
	fmt.Fprintf(a.out, "%s, %s/%s, %s\n", s.Processor, s.OS, s.Arch, s.Go)
	fmt.Fprintf(a.out, "%d processors, of which Go uses %d", s.Processors, s.GOMAXPROCS)
	if s.Cores > 0 {
		fmt.Fprintf(a.out, "; %d cores", s.Cores)
	}
	if s.GOMAXPROCS < s.Processors {
		fmt.Fprint(a.out, " (GOMAXPROCS or a quota of the control group holds it back)")
	}
	fmt.Fprintf(a.out, "\ninstructions: %s\n", strings.Join(s.SIMD, " "))
	if s.Memory.Total > 0 {
		fmt.Fprintf(a.out, "memory: %.1f GB", float64(s.Memory.Total)/1e9)
		if s.Memory.Available > 0 {
			fmt.Fprintf(a.out, ", %.1f GB available", float64(s.Memory.Available)/1e9)
		}
		if s.Memory.TransparentHugePages != "" {
			fmt.Fprintf(a.out, "; transparent huge pages: %s; %d reserved huge pages", s.Memory.TransparentHugePages, s.Memory.HugePages)
		}
		fmt.Fprintln(a.out)
	}
	switch {
	case len(s.NVIDIA.GPUs) > 0:
		fmt.Fprintf(a.out, "NVIDIA driver %s: %s\n", s.NVIDIA.Driver, strings.Join(s.NVIDIA.GPUs, ", "))
	case s.NVIDIA.Undriven > 0:
		fmt.Fprintf(a.out, "%d NVIDIA GPUs without a driver: %s\n", s.NVIDIA.Undriven, host.InstallNVIDIA)
	}
	state := map[bool]string{true: "ready", false: "missing"}
	fmt.Fprintln(a.out)
	var rows []table.Row
	for _, d := range c.Devices {
		rows = append(rows, table.Row{d.Kind, state[d.OK], d.Name + d.Why, d.Driver, d.Install})
	}
	a.table(table.Row{"device", "", "what", "driver", "install with"}, rows)
	fmt.Fprintln(a.out)
	rows = nil
	for _, t := range c.Tools {
		rows = append(rows, table.Row{t.Name, state[t.OK], t.For, t.Version, t.Install})
	}
	a.table(table.Row{"tool", "", "for", "version", "install with"}, rows)
	if missing := slices.IndexFunc(c.Tools, func(t checkupTool) bool { return !t.OK }); missing < 0 {
		fmt.Fprintln(a.out, "\nnothing is missing")
	}
}
