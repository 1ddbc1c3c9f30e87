package sysnum

// Numbers of arm64.
const (
	MemfdCreate = 279
	Prlimit64   = 261
	Fstatat     = 79
)
