package logits

import "golang.org/x/sys/cpu"

// all returns the loops that the machine can run, by name.
func all() map[string]loops {
	ls := map[string]loops{"best": best()}
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA {
		ls["AVX2"] = avx2
	}
	return ls
}
