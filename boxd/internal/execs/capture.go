package execs

// capture keeps the first and the last part of a stream, and counts all of it. Its owner does the locking.
type capture struct {
	head    []byte
	tail    []byte // a ring buffer once it is full
	next    int    // the next position in the ring buffer
	headCap int
	tailCap int
	total   int64
}

func newCapture(limit int) capture {
	return capture{headCap: limit - limit/2, tailCap: limit / 2}
}

func (c *capture) write(p []byte) {
	c.total += int64(len(p))
	if room := c.headCap - len(c.head); room > 0 {
		n := min(room, len(p))
		c.head = append(c.head, p[:n]...)
		p = p[n:]
	}
	if len(p) > c.tailCap {
		p = p[len(p)-c.tailCap:]
	}
	if room := c.tailCap - len(c.tail); room > 0 {
		n := min(room, len(p))
		c.tail = append(c.tail, p[:n]...)
		p = p[n:]
	}
	for len(p) > 0 {
		n := copy(c.tail[c.next:], p)
		c.next = (c.next + n) % c.tailCap
		p = p[n:]
	}
}

func (c *capture) truncated() bool { return c.total > int64(len(c.head)+len(c.tail)) }

// kept returns the head followed by the tail.
func (c *capture) kept() []byte {
	out := make([]byte, 0, len(c.head)+len(c.tail))
	out = append(out, c.head...)
	out = append(out, c.tail[c.next:]...)
	return append(out, c.tail[:c.next]...)
}

// from returns the kept bytes from an offset of the whole stream on, and the offset of the first of them, which
// is larger than the requested one if bytes were dropped.
func (c *capture) from(offset int64) ([]byte, int64) {
	offset = max(0, min(offset, c.total))
	if !c.truncated() {
		return c.kept()[offset:], offset
	}
	if offset < int64(len(c.head)) {
		return c.head[offset:], offset
	}
	first := c.total - int64(len(c.tail))
	offset = max(offset, first)
	return c.kept()[int64(len(c.head))+offset-first:], offset
}

// shrink frees excess capacity reserved by append.
func (c *capture) shrink() {
	if cap(c.head) > len(c.head)+len(c.head)/4 {
		c.head = append(make([]byte, 0, len(c.head)), c.head...)
	}
	if c.next == 0 && cap(c.tail) > len(c.tail)+len(c.tail)/4 {
		c.tail = append(make([]byte, 0, len(c.tail)), c.tail...)
	}
}

func (c *capture) memory() int { return cap(c.head) + cap(c.tail) }
