package tree

import (
	"archive/tar"
	"encoding/json"
	"fmt"
	"io"

	"envfarm.dev/boxd/internal/files"
)

// Restored is the result of a restore.
type Restored struct {
	Deleted int   `json:"deleted"`
	Kept    int   `json:"kept"` // directories to be deleted that contain something unknown to the diff
	Entries int   `json:"entries"`
	Bytes   int64 `json:"bytes"`
}

// Restore applies a diff below a directory descriptor, which for a box is "/": deletions first, then contents.
// Nothing outside it is touched, whatever the diff says, and no link is followed.
func Restore(root int, body io.Reader, maxBytes int64, keepOwners bool) (Restored, error) {
	var done Restored
	archive, err := files.NewTarReader(body, maxBytes)
	if err != nil {
		return done, err
	}
	manifest, err := readManifest(archive)
	if err != nil {
		return done, err
	}
	extractor := &files.Extractor{MaxBytes: maxBytes, KeepOwners: keepOwners, Replace: true}
	extractor.Open(root)
	// In reverse order, a directory's entries come before it.
	for i := len(manifest.Deleted) - 1; i >= 0; i-- {
		kept, err := extractor.Remove(manifest.Deleted[i])
		if err != nil {
			return done, fmt.Errorf("deleting %s: %w", manifest.Deleted[i], err)
		}
		if kept {
			done.Kept++
		} else {
			done.Deleted++
		}
	}
	err = extractor.Extract(archive)
	done.Entries, done.Bytes = extractor.Entries, extractor.Bytes
	return done, err
}

func readManifest(archive *tar.Reader) (*Manifest, error) {
	header, err := archive.Next()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", files.ErrBadArchive, err)
	}
	if header.Name != ManifestName || header.Typeflag != tar.TypeReg || header.Size > maxManifestBytes {
		return nil, fmt.Errorf("%w: the first entry is not %s", files.ErrBadArchive, ManifestName)
	}
	data, err := io.ReadAll(archive)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", files.ErrBadArchive, err)
	}
	manifest := &Manifest{}
	if err = json.Unmarshal(data, manifest); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", files.ErrBadArchive, ManifestName, err)
	}
	return manifest, nil
}
