"""What maps say of parts of a scene, beside what those parts are worth: each is left out at rendering."""
