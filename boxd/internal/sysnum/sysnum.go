// Package sysnum names system calls that the standard library does not. It holds nothing else.
package sysnum

// CloseRange has the same number on every architecture.
const CloseRange = 436
