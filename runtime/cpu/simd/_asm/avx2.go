package main

func avx2(c *asm) {}
