"""Pure maths on maps, for arrays of any framework and grids of any rank."""
