package tree

import (
	"archive/tar"
	"encoding/json"
	"io"
	"strings"
	"syscall"
	"unicode/utf8"

	"envfarm.dev/boxd/internal/files"
)

// ManifestName is the first entry of every diff.
const ManifestName = ".envfarm/diff.json"

const (
	maxManifestBytes = 64 << 20
	// maxPathBytes bounds the paths of a diff together: at 512 levels some thousand names would fill boxd's memory.
	maxPathBytes = 16 << 20
)

// Manifest describes a diff; all paths are relative to "/", in walk order.
type Manifest struct {
	Deleted []string `json:"deleted"`
	Changed []string `json:"changed"`
	Added   []string `json:"added"`
	Special []string `json:"special"` // new or changed, but not carried: sockets, devices, fifos, names that are not UTF-8
}

// Diff is a comparison, ready to be sent.
type Diff struct {
	Manifest Manifest
	Bytes    int64 // of contents
	paths    int   // bytes of the manifest's paths
	baseline *Baseline
}

// Compare walks the tree again. It returns ErrTooLarge for more than maxPathBytes.
func (b *Baseline) Compare() (*Diff, error) {
	d := &Diff{baseline: b, Manifest: Manifest{[]string{}, []string{}, []string{}, []string{}}}
	old := reader{rest: b.packed}
	more := old.next()
	err := b.walk(func(n *files.Node) error {
		for more && files.ComparePaths(old.path, n.Path) < 0 {
			d.list(&d.Manifest.Deleted, old.path)
			more = old.next()
		}
		known := more && old.path == n.Path
		same := known && old.digest == b.digest(&n.Stat)
		if known {
			more = old.next()
		}
		switch {
		case same:
		case !files.Carried(n):
			d.list(&d.Manifest.Special, n.Path)
		case known:
			d.found(&d.Manifest.Changed, n)
		default:
			d.found(&d.Manifest.Added, n)
		}
		return d.fits()
	})
	for ; err == nil && more; more = old.next() {
		d.list(&d.Manifest.Deleted, old.path)
		err = d.fits()
	}
	return d, err
}

func (d *Diff) found(list *[]string, n *files.Node) {
	d.list(list, n.Path)
	if n.Kind() == syscall.S_IFREG {
		d.Bytes += n.Stat.Size
	}
}

func (d *Diff) fits() error {
	if d.paths > maxPathBytes {
		return files.ErrTooLarge
	}
	return nil
}

func (d *Diff) list(list *[]string, path string) {
	d.paths += len(path)
	if !utf8.ValidString(path) {
		d.Manifest.Special = append(d.Manifest.Special, strings.ToValidUTF8(path, "\uFFFD"))
		return
	}
	*list = append(*list, path)
}

// Write sends the manifest and then the contents, in walk order.
func (d *Diff) Write(to io.Writer) error {
	manifest, err := json.Marshal(&d.Manifest)
	if err != nil {
		return err
	}
	packer := files.NewPacker(to)
	header := &tar.Header{Typeflag: tar.TypeReg, Name: ManifestName, Mode: 0o644, Size: int64(len(manifest)), Format: tar.FormatPAX}
	if err = packer.Tar.WriteHeader(header); err != nil {
		return err
	}
	if _, err = packer.Tar.Write(manifest); err != nil {
		return err
	}
	changed, added := d.Manifest.Changed, d.Manifest.Added
	err = d.baseline.walk(func(n *files.Node) error {
		isChanged, isAdded := take(&changed, n.Path), take(&added, n.Path)
		if (isChanged || isAdded) && files.Carried(n) {
			return packer.Add(n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return packer.Tar.Close()
}

// take returns whether an ordered list has the path, and drops what comes before it.
func take(list *[]string, path string) bool {
	for len(*list) > 0 && files.ComparePaths((*list)[0], path) < 0 {
		*list = (*list)[1:]
	}
	return len(*list) > 0 && (*list)[0] == path
}
