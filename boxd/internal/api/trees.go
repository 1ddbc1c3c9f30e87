package api

import (
	"errors"
	"io"
	"math"
	"os"
	"strconv"
	"syscall"

	"envfarm.dev/boxd/internal/files"
	"envfarm.dev/boxd/internal/tree"
)

const (
	defaultArchiveBytes = 4 << 30
	maxArchiveBytes     = 1 << 40
	maxListBytes        = 1 << 20
	tarType             = "application/x-tar"
)

type unpacked struct {
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

func (c *call) maxBytes() (int64, error) {
	limit, err := c.number("max_bytes", defaultArchiveBytes)
	if err != nil || limit > maxArchiveBytes {
		return 0, errors.New("max_bytes: 0 to 1099511627776")
	}
	return limit, nil
}

// owner parses uid and gid; without them files belong to the agent.
func (a *API) owner(c *call) (*files.Owner, error) {
	uid, err1 := c.number("uid", -1)
	gid, err2 := c.number("gid", -1)
	if errors.Join(err1, err2) != nil || uid > math.MaxInt32 || gid > math.MaxInt32 {
		return nil, errors.New("uid, gid: numbers, not negative")
	}
	if uid < 0 && gid < 0 {
		return a.NewFiles, nil
	}
	owner := &files.Owner{UID: int(uid), GID: int(gid)}
	if uid < 0 {
		owner.UID = os.Getuid()
	}
	if gid < 0 {
		owner.GID = owner.UID
	}
	if owner.UID == os.Getuid() && owner.GID == os.Getgid() {
		return nil, nil
	}
	return owner, nil
}

func (a *API) archivePut(c *call) {
	dest, err := files.CheckPath(c.Query.Get("dest"))
	if err != nil {
		c.reply.Fail(400, "bad_request", "dest: an absolute path")
		return
	}
	maxBytes, err := c.maxBytes()
	if err != nil {
		c.fail(err)
		return
	}
	owner, err := a.owner(c)
	if err != nil {
		c.fail(err)
		return
	}
	root, err := a.Policy.Directory(dest, true, owner)
	if err != nil {
		c.fail(err)
		return
	}
	defer syscall.Close(root)
	archive, err := files.NewTarReader(c.Body, maxBytes)
	if err != nil {
		c.fail(err)
		return
	}
	extractor := &files.Extractor{Owner: owner, MaxBytes: maxBytes}
	extractor.Open(root)
	if err = extractor.Extract(archive); err != nil {
		c.fail(err)
		return
	}
	c.reply.JSON(200, unpacked{Entries: extractor.Entries, Bytes: extractor.Bytes})
}

func (a *API) archiveGet(c *call) {
	maxBytes, err := c.maxBytes()
	if err != nil {
		c.fail(err)
		return
	}
	var paths []string
	for _, given := range c.Query["path"] {
		path, err := files.CheckPath(given)
		if err != nil {
			c.reply.Fail(400, "bad_request", "path: absolute paths")
			return
		}
		paths = append(paths, path)
	}
	if len(paths) == 0 {
		c.reply.Fail(400, "bad_request", "path: at least one")
		return
	}
	var total int64
	for _, path := range paths {
		err = a.Policy.Walk(path, func(n *files.Node) (bool, error) {
			if n.Kind() == syscall.S_IFREG {
				total += n.Stat.Size
			}
			if total > maxBytes {
				return false, files.ErrTooLarge
			}
			return true, nil
		})
		if err != nil {
			c.fail(err)
			return
		}
	}
	a.sendPaths(c, paths)
}

func (a *API) sendPaths(c *call, paths []string) {
	stream := c.reply.Stream(tarType)
	packer := files.NewPacker(stream)
	for _, path := range paths {
		err := a.Policy.Walk(path, func(n *files.Node) (bool, error) {
			if n.Path == "" || !files.Carried(n) {
				return true, nil
			}
			return true, packer.Add(n)
		})
		if err != nil {
			stream.Break()
			return
		}
	}
	if packer.Tar.Close() != nil {
		stream.Break()
		return
	}
	stream.Close()
}

func (a *API) fileGet(c *call) {
	path, err := files.CheckPath(c.Query.Get("path"))
	offset, err1 := c.number("offset", 0)
	limit, err2 := c.number("limit", math.MaxInt64)
	if errors.Join(err, err1, err2) != nil {
		c.reply.Fail(400, "bad_request", "path: an absolute path; offset, limit: numbers, not negative")
		return
	}
	file, err := a.Policy.OpenFile(path)
	if err != nil {
		c.fail(err)
		return
	}
	defer file.Close()
	if _, err = file.Seek(offset, io.SeekStart); err != nil {
		c.fail(err)
		return
	}
	stream := c.reply.Stream("application/octet-stream")
	content := io.LimitReader(file, limit)
	if _, err = io.CopyBuffer(stream, struct{ io.Reader }{content}, make([]byte, 64<<10)); err != nil {
		stream.Break()
		return
	}
	stream.Close()
}

type filePutAnswer struct {
	Bytes int64 `json:"bytes"`
}

func (a *API) filePut(c *call) {
	path, err := files.CheckPath(c.Query.Get("path"))
	if err != nil {
		c.reply.Fail(400, "bad_request", "path: an absolute path")
		return
	}
	mode := int64(-1)
	if text := c.Query.Get("mode"); text != "" {
		if mode, err = strconv.ParseInt(text, 8, 32); err != nil || mode < 0 || mode > 0o777 {
			c.reply.Fail(400, "bad_request", "mode: octal, 0 to 777")
			return
		}
	}
	maxBytes, err := c.maxBytes()
	if err != nil {
		c.fail(err)
		return
	}
	owner, err := a.owner(c)
	if err != nil {
		c.fail(err)
		return
	}
	body := &cappedBody{from: c.Body, left: maxBytes}
	written, err := a.Policy.PutFile(path, body, int(mode), c.Query.Get("parents") == "1", owner)
	if err != nil {
		c.fail(err)
		return
	}
	c.reply.JSON(200, filePutAnswer{Bytes: written})
}

// cappedBody fails where io.LimitReader would silently truncate.
type cappedBody struct {
	from io.Reader
	left int64
}

func (b *cappedBody) Read(p []byte) (int, error) {
	n, err := b.from.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return 0, files.ErrTooLarge
	}
	return n, err
}

type baselineRequest struct {
	Roots   []string `json:"roots"`
	Exclude []string `json:"exclude"`
}

type baselineAnswer struct {
	Entries int `json:"entries"`
}

func (a *API) baselineTake(c *call) {
	var request baselineRequest
	if err := c.ReadJSON(&request, maxListBytes); err != nil {
		c.fail(err)
		return
	}
	for _, list := range [][]string{request.Roots, request.Exclude} {
		for i := range list {
			path, err := files.CheckPath(list[i])
			if err != nil {
				c.reply.Fail(400, "bad_request", "roots, exclude: absolute paths")
				return
			}
			list[i] = path
		}
	}
	if len(request.Roots) == 0 {
		c.reply.Fail(400, "bad_request", "roots: at least one")
		return
	}
	a.treeMu.Lock()
	defer a.treeMu.Unlock()
	baseline, err := tree.Take(request.Roots, request.Exclude, a.Policy)
	if err != nil {
		c.fail(err)
		return
	}
	a.baseline = baseline
	c.reply.JSON(200, baselineAnswer{Entries: baseline.Count})
}

func (a *API) diff(c *call) {
	maxBytes, err := c.maxBytes()
	if err != nil {
		c.fail(err)
		return
	}
	a.treeMu.Lock()
	defer a.treeMu.Unlock()
	if a.baseline == nil {
		c.reply.Fail(409, "no_baseline", "POST /v1/baseline comes first")
		return
	}
	diff, err := a.baseline.Compare()
	if err == nil && diff.Bytes > maxBytes {
		err = files.ErrTooLarge
	}
	if err != nil {
		c.fail(err)
		return
	}
	stream := c.reply.Stream(tarType)
	if diff.Write(stream) != nil {
		stream.Break()
		return
	}
	stream.Close()
}

func (a *API) restore(c *call) {
	maxBytes, err := c.maxBytes()
	if err != nil {
		c.fail(err)
		return
	}
	root, err := files.Policy{}.Directory("/", false, nil)
	if err != nil {
		c.fail(err)
		return
	}
	defer syscall.Close(root)
	done, err := tree.Restore(root, c.Body, maxBytes, os.Getuid() == 0)
	if err != nil {
		c.fail(err)
		return
	}
	c.reply.JSON(200, done)
}
