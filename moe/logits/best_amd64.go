package logits

import "golang.org/x/sys/cpu"

func best() loop {
	switch {
	case cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ:
		return lanesAVX512
	case cpu.X86.HasAVX2 && cpu.X86.HasFMA:
		return lanesAVX2
	}
	return portable
}
