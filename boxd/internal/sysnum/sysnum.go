// Package sysnum has the numbers of system calls that the standard library lacks.
package sysnum

// CloseRange has the same number on every architecture.
const CloseRange = 436
