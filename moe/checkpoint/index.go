package checkpoint

import "strings"

// ParseIndex reads a model.safetensors.index.json: the file that each tensor
// lies in. file is its name for errors. Files are in the index's directory.
func ParseIndex(file string, data []byte) (map[string]string, error) {
	var f faults
	members, err := object(data)
	if err != nil {
		f.add(file, "", "%w", err)
		return nil, f.err()
	}
	var shards map[string]string
	for _, m := range members {
		switch {
		case m.again:
			f.add(file, "", "%q appears twice", m.name)
		case m.name == "weight_map":
			shards = parseWeightMap(&f, file, m.value)
		}
	}
	if shards == nil && f == nil {
		f.add(file, "", `"weight_map" is missing`)
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	return shards, nil
}

func parseWeightMap(f *faults, file string, value []byte) map[string]string {
	members, err := object(value)
	if err != nil {
		f.add(file, "", "weight_map: %w", err)
		return nil
	}
	shards := make(map[string]string)
	for _, m := range members {
		shard, ok := text(m.value)
		switch {
		case m.again:
			f.add(file, m.name, "appears twice in weight_map")
		case !ok:
			f.add(file, m.name, "%s is not the name of a file", clip(m.value))
		case !plain(shard):
			f.add(file, m.name, "%q is not the plain name of a .safetensors file in the same directory", shard)
		}
		shards[m.name] = shard
	}
	return shards
}

// plain reports whether name can only be that of a file in the directory.
func plain(name string) bool {
	return strings.HasSuffix(name, ".safetensors") && !strings.HasPrefix(name, ".") && !strings.ContainsAny(name, "/\\:\x00")
}
