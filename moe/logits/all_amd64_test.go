package logits

import "golang.org/x/sys/cpu"

// all returns the loops that the machine can run, by name.
func all() map[string]loop {
	loops := map[string]loop{"best": best()}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		loops["AVX2"] = lanesAVX2
	}
	return loops
}
