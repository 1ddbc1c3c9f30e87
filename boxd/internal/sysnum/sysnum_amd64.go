package sysnum

// Numbers of amd64.
const (
	MemfdCreate = 319
	Prlimit64   = 302
	Fstatat     = 262
)
