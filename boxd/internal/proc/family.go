package proc

// Self is boxd's own pid.
func (t *Table) Self() int { return t.self }

// Descendants selects the processes that descend from root, by a closure over the parents.
// As boxd is a subreaper, everything that it ever started stays its descendant.
func Descendants(all []Process, root int) []Process {
	return Closure(all, func(p *Process) bool { return p.Ppid == root })
}

// Closure selects the processes that seed selects and their descendants.
func Closure(all []Process, seed func(*Process) bool) []Process {
	in := make(map[int]bool, 16)
	for grew := true; grew; {
		grew = false
		for i := range all {
			p := &all[i]
			if !in[p.Pid] && (in[p.Ppid] || seed(p)) {
				in[p.Pid] = true
				grew = true
			}
		}
	}
	kept := make([]Process, 0, len(in))
	for i := range all {
		if in[all[i].Pid] {
			kept = append(kept, all[i])
		}
	}
	return kept
}

// Box selects the processes of the box: the whole pid namespace if boxd is its PID 1, else boxd's descendants.
func (t *Table) Box(all []Process) []Process {
	if t.self == 1 {
		return all
	}
	return Descendants(all, t.self)
}
